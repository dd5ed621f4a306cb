"""This package trains networks: the loop of `python -m codeq.train`, and the parts that other loops use."""
