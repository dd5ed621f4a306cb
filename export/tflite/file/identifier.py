"""This constant tells a .tflite file from others; it stands alone, so that a look at a file loads no library."""

IDENTIFIER = b"TFL3"
"""Bytes 4 to 8 of every file (schema.fbs of TensorFlow Lite)."""
