"""What no output reads is not in a graph; what an output needs only the size of is not either."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from codeq.graph.nodes import operator_name
from codeq.graph.trace import trace


class Unread(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.used, self.aux = nn.Conv2d(3, 4, 3, stride=2), nn.Conv2d(3, 4, 3)
        self.log: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        y = self.aux(x).relu_()
        self.log = y.mean()
        torch.rand_like(x)
        return F.interpolate(self.used(x), size=y.shape[-2:])


def test_what_no_output_reads_is_removed() -> None:
    exported = trace(Unread().eval(), (torch.rand(2, 3, 9, 9),))
    assert [operator_name(node) for node in exported.graph.nodes if operator_name(node)] == [
        "conv2d",
        "upsample_nearest2d",
    ]
    exported.validate()
