"""Runtimes by the name that flags and JSON have, and as texts call them."""

NAMES = {
    "pytorch": "PyTorch",
    "onnxruntime": "onnxruntime",
    "litert": "LiteRT",
    "openvino": "OpenVINO",
    "integer_reference": "the integer reference",
}
"""Ways to compute a network."""
RUNTIMES = ("onnxruntime", "litert", "openvino")
"""Those that open files."""
