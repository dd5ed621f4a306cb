"""This package rewrites the ONNX graph, and the program just before it becomes one."""
