"""What a node of the program has become: a tensor of the file; and where the result of an operator goes."""

from dataclasses import dataclass

from torch.fx import Node

from export.tflite.file.graph import NO_ACTIVATION, Quantization
from export.tflite.weights.layout import Order


@dataclass(frozen=True, eq=False)
class Value:
    """A value of the network: a tensor of the file and the order of its axes."""

    tensor: int
    order: Order
    quantization: Quantization | None = None


@dataclass(frozen=True, eq=False)
class Target:
    """What an operator's result stands for: its own node, or the clamp and the quantizer that directly follow it."""

    node: Node
    activation: int = NO_ACTIVATION
    quantization: Quantization | None = None
