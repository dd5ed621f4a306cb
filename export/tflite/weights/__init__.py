"""How weights lie in a .tflite file."""
