"""A .tflite file holds activations as int8 codes, programs and ONNX files hold them as uint8: 128 less. Exact."""

UINT8_TO_INT8 = -128
"""From a uint8 code or zero point to the int8 one of the same value."""
