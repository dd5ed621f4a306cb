"""This table says what onnxruntime calls the kernels of the rule table (codeq/activations/rules.py)."""

from collections.abc import Mapping

from codeq.activations.rules import IntegerKind

KERNEL_NAMES: Mapping[IntegerKind, str] = {
    "convolution": "QLinearConv",
    "linear": "QGemm",
    "matmul": "QLinearMatMul",
    "add": "QLinearAdd",
    "multiply": "QLinearMul",
    "adaptive_average_pool": "QLinearGlobalAveragePool",
    "average_pool": "QLinearAveragePool",
    "mean": "QLinearGlobalAveragePool",
    "transposed_convolution": "",
    "bilinear_resize": "",
    "concatenate": "QLinearConcat",
    "sigmoid": "QLinearSigmoid",
    "leaky_relu": "QLinearLeakyRelu",
}
"""The operator that onnxruntime's optimized graph has for each kind of integer computation; "" where it has none and
computes floats from the exact weight between codes."""
