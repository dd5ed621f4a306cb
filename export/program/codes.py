"""A program holds activations as uint8 codes; a runtime that holds them as int8 has 128 less. Exact."""

UINT8_TO_INT8 = -128
"""From a uint8 code or zero point to the int8 one of the same value."""
