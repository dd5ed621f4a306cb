"""This module takes the layers of a network out, one by one, as networks of their own with any number of channels.

What a layer takes in a runtime depends on its shape alone, so that of layers of one shape one is measured.
"""

import copy
import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.fx import Node

from codeq.channels.constants import TRANSPOSED, groups_of, is_layer
from codeq.graph.inputs import Inputs, split_inputs
from codeq.graph.nodes import state_name
from codeq.graph.trace import trace
from codeq.quantizer.attach import detach

CONVOLUTIONS: dict[int, tuple[type[nn.Module], type[nn.Module]]] = {
    3: (nn.Conv1d, nn.ConvTranspose1d),
    4: (nn.Conv2d, nn.ConvTranspose2d),
    5: (nn.Conv3d, nn.ConvTranspose3d),
}
ORDINARY = ("stride", "padding", "dilation")
TURNED = ("stride", "padding", "output_padding", "groups", "dilation")
"""What follows the bias among the arguments of a convolution before its groups, and of a transposed one."""


@dataclass(frozen=True)
class LoneLayer:
    """Describes a layer.

    Attributes:
        kind: The class of its module.
        kernel: Its kernel's size; empty for a linear layer.
        arguments: What else the module takes, but for groups.
        outputs, inputs: All channels.
        groups: Of a convolution.
        shape: Of its input, the batch first.
        channel_axis: Of that.
    """

    kind: type[nn.Module]
    kernel: tuple[int, ...]
    arguments: tuple[tuple[str, Any], ...]
    outputs: int
    inputs: int
    groups: int
    shape: tuple[int, ...]
    channel_axis: int

    @property
    def values(self) -> int:
        """Count the values that it makes, about: a place of its input makes one, with a stride fewer."""
        places = math.prod(size for axis, size in enumerate(self.shape) if axis != self.channel_axis)
        strides: Any = dict(self.arguments).get("stride", ())
        change = math.prod(strides)
        turned = issubclass(self.kind, nn.modules.conv._ConvTransposeNd)
        return self.outputs * (places * change if turned else max(1, places // change))

    @property
    def group_size(self) -> int:
        """Give how many outputs a group has: only whole groups go."""
        return self.outputs // self.groups

    def build(self, outputs: int, inputs: int) -> tuple[nn.Module, Tensor]:
        """Build it with other numbers of channels, and one input, all of it random.

        Args:
            outputs: A multiple of `group_size`, in groups.
            inputs: Where it has groups, they follow the outputs.
        """
        groups = max(1, outputs // self.group_size) if self.groups > 1 else 1
        if self.groups > 1:
            inputs = self.inputs // self.groups * groups
        shape = list(self.shape)
        shape[self.channel_axis] = inputs
        arguments = dict(self.arguments)
        if self.kernel:
            arguments |= {"kernel_size": self.kernel, "groups": groups}
        return self.kind(inputs, outputs, **arguments).eval(), torch.randn(shape)


def lone_layers(model: nn.Module, inputs: Inputs) -> dict[str, list[LoneLayer]]:
    """Describe the convolutions and linear layers of a network, by the names of their weights: one for each call.

    Args:
        model: Attached or plain; not changed.
        inputs: One or more, batch first: shapes are those of the first alone.

    Raises:
        TraceError: The network cannot be traced.
    """
    plain = detach(copy.deepcopy(model)).eval()
    tensors, names = split_inputs(plain, inputs)
    exported = trace(plain, tuple(tensor[:1] for tensor in tensors), names, dynamic_batch=False)
    found: dict[str, list[LoneLayer]] = {}
    for node in exported.graph.nodes:
        weight = node.args[1] if is_layer(node) else None
        name = state_name(exported, weight) if isinstance(weight, Node) else None
        if name is not None and isinstance(weight, Node):
            found.setdefault(name, []).append(_describe(node, weight))
    return found


def _describe(node: Node, weight: Node) -> LoneLayer:
    arguments: list[Any] = list(node.args)
    shape, sizes = (tuple(int(size) for size in which.meta["val"].shape) for which in (arguments[0], weight))
    bias = ("bias", len(arguments) > 2 and arguments[2] is not None)
    rank = len(sizes)
    if rank == 2:
        return LoneLayer(nn.Linear, (), (bias,), sizes[0], sizes[1], 1, shape, len(shape) - 1)
    groups = groups_of(node)
    turned = node.target in TRANSPOSED
    names = TURNED if turned else ORDINARY
    given = dict(zip(names, arguments[3:], strict=False))
    given.pop("groups", None)
    others = [(name, value if isinstance(value, str) else tuple(value)) for name, value in given.items()]
    outputs, inputs = (sizes[1] * groups, sizes[0]) if turned else (sizes[0], sizes[1] * groups)
    kind = CONVOLUTIONS[rank][int(turned)]
    return LoneLayer(kind, sizes[2:], (bias, *others), outputs, inputs, groups, shape, 1)
