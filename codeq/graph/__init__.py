"""A network as a graph of aten operators: traced, brought into one form, run."""
