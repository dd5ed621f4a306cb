"""This package traces a network to a graph of aten operators, brings it into one form, and runs it."""
