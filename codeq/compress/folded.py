"""Say what a layer's output channels become once the BatchNorm behind the layer is folded into it.

    gain   = |gamma| / sqrt(running variance + eps)
    offset = beta + (bias - running mean) * gamma / sqrt(running variance + eps)

An integer kernel adds the offset as a multiple of input scale times weight scale times gain, in int32.
"""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.export import ExportedProgram
from torch.fx import Node

from codeq.compress.columns import layer_of
from codeq.graph.nodes import state_name

BIAS_STEPS = 2.0**29
"""An offset should not take more steps: a quarter of int32, as activation ranges may turn out narrower than the inputs
that were seen."""
CODES = 255


class Folded(NamedTuple):
    """Holds gain and offset of every output channel, float32 `(C,)`."""

    gain: Tensor
    offset: Tensor

    def least_scale(self, largest: float) -> Tensor:
        """Find the scale of every channel below which its offset does not fit int32.

        Args:
            largest: Magnitude of what the layer reads.
        """
        input_scale = max(largest, 1e-30) / CODES
        found = self.offset.abs() / (BIAS_STEPS * input_scale * self.gain)
        return torch.where(self.gain > 0, found, torch.zeros_like(found))


def folded_channels(exported: ExportedProgram) -> dict[str, Folded]:
    """Read gains and offsets from a traced network, by the name of the weight in its graph."""
    stored = {**exported.constants, **exported.state_dict}

    def value(node: object) -> Tensor | None:
        name = state_name(exported, node) if isinstance(node, Node) else None
        return None if name is None else stored[name].detach().double()

    found = {}
    for node in exported.graph.nodes:
        if node.op != "call_function" or layer_of(node) is None:
            continue
        name = state_name(exported, node.args[1])
        bias = value(node.args[2]) if len(node.args) > 2 else None
        if name is None:
            continue
        readers = list(node.users)
        norm = readers[0] if len(readers) == 1 and readers[0].args[0] is node else None
        if norm is not None and norm.target is torch.ops.aten.batch_norm.default:
            gamma, beta, mean, variance = (value(part) for part in norm.args[1:5])
            if mean is None or variance is None:
                continue
            factor = (variance + norm.args[7]).rsqrt()
            factor = factor if gamma is None else factor * gamma
            offset = ((0 if bias is None else bias) - mean) * factor
            offset = offset if beta is None else offset + beta
            found[name] = Folded(factor.abs().float(), offset.float())
        elif bias is not None:
            found[name] = Folded(torch.ones_like(bias).float(), bias.float())
    return found
