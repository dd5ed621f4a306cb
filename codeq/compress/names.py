"""This tuple names the methods of compression, for a command that answers before PyTorch is loaded."""

METHODS = ("rounding", "obq")
