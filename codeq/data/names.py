"""This text says what `--data` takes, for commands that answer before PyTorch is loaded."""

SOURCES = "digits, idx:DIR, cifar10:DIR or images:DIR"
"""For messages and help."""
