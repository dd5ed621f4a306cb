"""This module lists all families of lowerings; importing it fills the registry."""

from export.tflite.operators import (
    activation,
    arithmetic,
    attention,
    convolution,
    embedding,
    index,
    linear,
    logic,
    normalisation,
    pooling,
    quantizer,
    recurrent,
    resize,
    shape,
    space_to_depth,
    unary,
)

FAMILIES = (
    activation,
    arithmetic,
    attention,
    convolution,
    embedding,
    index,
    linear,
    logic,
    normalisation,
    pooling,
    quantizer,
    recurrent,
    resize,
    shape,
    space_to_depth,
    unary,
)
