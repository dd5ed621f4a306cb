"""This package decides how weights lie in a .tflite file."""
