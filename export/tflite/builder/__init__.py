"""This package makes the graph of a file: it reads the program and writes tensors and operators."""
