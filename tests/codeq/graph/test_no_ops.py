"""What changes no value goes, what does stays; outputs, writes and gradients are what they were."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from codeq.graph.nodes import GraphRunner, operator_name
from codeq.graph.trace import trace
from tests.cases import Net

pytestmark = pytest.mark.quick

X = torch.randn(3, 3, 4, 5, generator=torch.Generator().manual_seed(1))


def traced(body: Callable[..., Any], *, trains: bool = False) -> list[str]:
    """The operators of a network whose outputs its graph computes."""
    model = Net(body, conv=nn.Conv2d(3, 3, 1)).eval().requires_grad_(trains)
    exported = trace(model, (X[:2],))
    found, expected = GraphRunner(exported).compute((X,)), model(X)
    for ours, theirs in zip(found, expected if isinstance(expected, tuple) else [expected], strict=True):
        torch.testing.assert_close(ours, theirs)  # memory in another order is summed in another order
    return [operator_name(node) for node in exported.graph.nodes if operator_name(node)]


@pytest.mark.parametrize(
    "cast",
    [
        lambda y, x: y.float(),
        lambda y, x: y.to(x.dtype),
        lambda y, x: y.to(x),
        lambda y, x: y.to("cpu"),
        lambda y, x: y.to(x.device, torch.float32, copy=True),
        lambda y, x: y.type_as(x),
        lambda y, x: y.cpu(),
        lambda y, x: y.contiguous(),
        lambda y, x: y.contiguous(memory_format=torch.channels_last),
        lambda y, x: y.clone(),
        lambda y, x: y.detach(),
        lambda y, x: y.float().contiguous().clone().to(x.dtype),
    ],
)
def test_what_changes_nothing_goes(cast: Callable[[Tensor, Tensor], Tensor]) -> None:
    assert traced(lambda m, x: F.relu(cast(m.conv(cast(x, x)), x))) == ["conv2d", "relu"]


@pytest.mark.parametrize(
    ("body", "operators"),
    [
        (lambda m, x: m.conv(x).double() * 2, ["conv2d", "to", "mul"]),
        (lambda m, x: m.conv(x) * (x > 0).float(), ["conv2d", "gt", "to", "mul"]),
        (lambda m, x: m.conv(x).long().float(), ["conv2d", "to", "to"]),
    ],
)
def test_a_cast_to_another_type_stays(body: Callable[..., Tensor], operators: list[str]) -> None:
    assert traced(body) == operators


def test_a_view_of_a_copy_in_order_becomes_a_reshape() -> None:
    found = traced(lambda m, x: m.conv(x).transpose(1, 3).contiguous().view(x.shape[0], -1))
    assert found == ["sym_size", "conv2d", "transpose", "reshape"]


def test_every_output_stays_a_tensor_of_its_own() -> None:
    assert traced(lambda m, x: ((y := m.conv(x)), y.clone(), x.clone())) == ["conv2d", "clone", "clone"]


def test_a_copy_that_keeps_a_write_from_being_seen_stays() -> None:
    def body(m: Any, x: Tensor) -> Tensor:
        y = m.conv(x)
        part = y.clone()[:, :1]
        part.mul_(2.0)
        return y + part

    traced(body)


def test_a_detach_stays_in_training() -> None:
    assert traced(lambda m, x: m.conv(x).detach() + 1, trains=True) == ["conv2d", "detach", "add"]
