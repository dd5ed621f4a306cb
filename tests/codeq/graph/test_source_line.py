"""A node knows the line of the network that it comes from, inside torch's layers too."""

import inspect
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from codeq.graph.nodes import operator_name
from codeq.graph.source_line import source_line
from codeq.graph.trace import trace

pytestmark = pytest.mark.quick


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        y = self.fc(x)
        return y.cumsum(1)


def test_a_node_names_its_line() -> None:
    exported = trace(Net(), (torch.randn(2, 4),))
    start = inspect.getsourcelines(Net.forward)[1]
    lines = {operator_name(node): source_line(node) for node in exported.graph.nodes if operator_name(node)}
    name = Path(__file__).name
    assert lines == {"linear": f"{name}, line {start + 1}", "cumsum": f"{name}, line {start + 2}"}
    assert {source_line(node) for node in exported.graph.nodes if node.op != "call_function"} == {""}
