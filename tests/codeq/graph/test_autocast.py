"""Autocast around a call of ours changes nothing; autocast within a network is named."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import codeq
from codeq import QuantizedActivations
from codeq.errors import TraceError
from codeq.graph.autocast import autocast_off
from codeq.graph.trace import trace

pytestmark = pytest.mark.quick


class Network(nn.Module):
    """Computes with `body(module, x)`."""

    def __init__(self, body: Callable[["Network", Tensor], Tensor]) -> None:
        super().__init__()
        self.body = body
        self.conv, self.fc = nn.Conv2d(1, 4, 3), nn.Linear(144, 5)

    def layers(self, x: Tensor) -> Tensor:
        return self.fc(torch.relu(self.conv(x)).flatten(1))

    def forward(self, x: Tensor) -> Tensor:
        return self.body(self, x)


def within_autocast(model: Network, x: Tensor) -> Tensor:
    with torch.autocast("cpu", torch.bfloat16):
        y = model.layers(x)
    return y.float()


def last_layer_in_autocast(model: Network, x: Tensor) -> Tensor:
    x = torch.relu(model.conv(x)).flatten(1)
    with torch.autocast("cpu", torch.bfloat16):
        return model.fc(x)


def autocast_switched_off(model: Network, x: Tensor) -> Tensor:
    with torch.autocast("cpu", enabled=False):
        return model.layers(x)


def test_the_callers_autocast_is_off_and_comes_back(rng: torch.Generator) -> None:
    x = torch.randn(3, 3, generator=rng)
    product = autocast_off()(torch.matmul)
    with torch.autocast("cpu", torch.bfloat16):
        assert product(x, x).dtype == torch.float32
        assert (x @ x).dtype == torch.bfloat16
    assert not torch.is_autocast_enabled("cpu")


def test_a_trace_within_autocast_is_the_trace_outside() -> None:
    model, x = Network(Network.layers).eval(), torch.rand(2, 1, 8, 8)
    outside = trace(model, (x,))
    with torch.autocast("cpu", torch.bfloat16):
        inside = trace(model, (x,))
    assert str(inside.graph) == str(outside.graph)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (within_autocast, r"conv: conv2d computes in torch\.bfloat16, expected torch\.float32; take torch\.autocast"),
        (last_layer_in_autocast, r"fc: linear computes in torch\.bfloat16"),
        (lambda model, x: model.layers(x.half().float()), r"Network: to computes in torch\.float16"),
    ],
    ids=["forward", "last_layer", "cast"],
)
def test_the_first_operator_in_half_precision_is_named(body: Callable[..., Tensor], message: str) -> None:
    with pytest.raises(TraceError, match=f"^{message}[^\n]+$"):
        trace(Network(body).eval(), (torch.rand(2, 1, 8, 8),))


def test_an_autocast_that_is_switched_off_is_none() -> None:
    trace(Network(autocast_switched_off).eval(), (torch.rand(2, 1, 8, 8),))


def test_activations_are_planned_and_calibrated_in_float32(rng: torch.Generator) -> None:
    model, x = Network(Network.layers).eval(), torch.rand(4, 1, 8, 8, generator=rng)
    codeq.attach(model)
    outside = QuantizedActivations(model, (x,))
    outside.calibrate((x,))
    with torch.autocast("cpu", torch.bfloat16):
        inside = QuantizedActivations(model, (x,))
        inside.calibrate((x,))
    assert inside.encodings() == outside.encodings()
