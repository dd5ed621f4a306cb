"""Lowerings of aten operators, one file per family; importing the package registers all."""

from export.tflite.operators import (
    activation,
    arithmetic,
    attention,
    convolution,
    embedding,
    linear,
    normalisation,
    pooling,
    quantizer,
    recurrent,
    resize,
    shape,
    space_to_depth,
)

__all__ = [
    "activation",
    "arithmetic",
    "attention",
    "convolution",
    "embedding",
    "linear",
    "normalisation",
    "pooling",
    "quantizer",
    "recurrent",
    "resize",
    "shape",
    "space_to_depth",
]
