"""A checkpoint becomes a .tflite file for LiteRT."""
