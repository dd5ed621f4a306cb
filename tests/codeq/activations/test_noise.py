"""Signal to noise of operators whose inputs are rounded: by hand, with one grid of whole numbers."""

import math

import pytest
import torch
from torch import Tensor, nn

from codeq.activations.encoding import ActivationEncoding
from codeq.activations.noise import measure_noise
from codeq.activations.plan import plan_activations
from codeq.graph.canonical import canonicalize
from codeq.graph.nodes import layer_names
from codeq.graph.trace import trace

pytestmark = pytest.mark.quick


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.twice = nn.Linear(1, 1, bias=False)
        self.last = nn.Linear(2, 1, bias=False)
        with torch.no_grad():
            self.twice.weight.fill_(2.0)
            self.last.weight.fill_(1.0)

    def forward(self, x: Tensor) -> Tensor:
        y = self.twice(x)
        return self.last(torch.cat([y, y.exp()], 1)[:, :2])


def test_each_reader_is_measured_on_its_own_inputs() -> None:
    model = Net().eval()
    exported = trace(model, (torch.rand(2, 1),))
    canonicalize(exported)
    plan = plan_activations(exported, lambda node: "")
    names = layer_names(exported.graph)
    whole = {name: ActivationEncoding(1.0, 0) for name in plan.tensors.values()}
    x = torch.tensor([[0.75], [1.75]])

    def measure(only: set[str] | None = None) -> dict[str, float]:
        found = measure_noise(exported, plan, whole, (x,), batch_size=1, only=only)
        return {names[node]: power.decibels for node, power in found.items()}

    # twice: 1.5 and 3.5 become 2 and 4.
    assert measure()["twice"] == pytest.approx(10 * math.log10((1.5**2 + 3.5**2) / 0.5), abs=1e-4)
    # last reads 1.5 and 3.5 as 2 and 4 (half to even), and their exponentials 4.48 and 33.1 as 4 and 33.
    sums = torch.tensor([1.5, 3.5]) + torch.tensor([1.5, 3.5]).exp()
    noise = sums - torch.tensor([2.0 + 4.0, 4.0 + 33.0])
    assert measure()["last"] == pytest.approx(10 * math.log10(sums.square().sum() / noise.square().sum()), abs=1e-3)
    assert measure({"input"}).keys() == {"twice"}
