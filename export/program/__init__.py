"""This package is the pipeline from a network to its reference program, which every file is made from."""
