"""Lowerings of aten operators, one file per family; importing the package registers all."""

from export.tflite.operators import (
    activation,
    arithmetic,
    convolution,
    linear,
    normalisation,
    pooling,
    quantizer,
    shape,
)

__all__ = ["activation", "arithmetic", "convolution", "linear", "normalisation", "pooling", "quantizer", "shape"]
