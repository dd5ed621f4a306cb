"""The pipeline from a network to its reference program, the one that every file is made from."""
