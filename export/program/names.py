"""This module decides what quantized tensors are called: the same in every program, file and report.

the codes of the weight `conv1.weight`              ->  `conv1.weight_quantized`
the codes of the activation that `conv1` computes   ->  `conv1_quantized`
"""

from torch.fx import Node

CODES_SUFFIX = "_quantized"
"""Ends the name of every tensor of codes."""
SCOPE_KEY = "codeq"
"""This one of a node's module scopes carries a layer's name."""
LAYER_SCOPE = "layer:"
"""Prefix of the module scope that carries a layer's name through torch's exporter."""


def codes_name(name: str) -> str:
    """Give the name of the tensor that holds the codes of a weight, a bias or an activation."""
    return f"{name}{CODES_SUFFIX}"


def plain_name(codes: str) -> str:
    """Give the weight, bias or activation that a tensor of codes belongs to: the inverse of `codes_name`."""
    return codes.removesuffix(CODES_SUFFIX)


def scope_name(node: Node) -> str:
    """Give the name that quantizing a program has written on a layer or a quantizer; "" where it has written none."""
    scope = node.meta.get("nn_module_stack", {}).get(SCOPE_KEY)
    return "" if scope is None else str(scope[0]).removeprefix(LAYER_SCOPE)
