"""Writes become values: what a graph without them computes is what eager PyTorch computes with them."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from codeq.graph.nodes import GraphRunner, operator_name
from codeq.graph.trace import trace
from codeq.graph.writes import writes_in_place

Body = Callable[[Tensor], Any]


class Writes(nn.Module):
    def __init__(self, body: Body) -> None:
        super().__init__()
        self.body = body

    def forward(self, x: Tensor) -> Any:
        return self.body(x)


def view_then_whole(x: Tensor) -> tuple[Tensor, ...]:
    y = x * 2
    part = y[:, 1:]
    y.add_(1)
    part[:, 0] = 0
    return y, part


def whole_then_view(x: Tensor) -> tuple[Tensor, ...]:
    y = x * 2
    part = y[:, :1]
    y.relu_()
    return y, part + 1


def views_of_views(x: Tensor) -> Tensor:
    y = x * 2
    z = y.view(-1, 2, 6)
    z[:, 0] *= 3
    z.transpose(1, 2).add_(torch.ones(6, 2))
    z.unsqueeze(1).permute(0, 3, 1, 2)[..., 1].mul_(-1)
    return y


def from_itself(x: Tensor) -> Tensor:
    y = x + 0
    y[:, 1] = y[:, 0]
    y[:, -1] += y[:, 1]
    y[1:2, :] = y[:1, :]
    return y


def every_other(x: Tensor) -> Tensor:
    y = x + 0
    y[..., ::2] = 5
    y[y > 0.3] = -1.0
    y[:, :, 4].fill_(2)
    y[:1].zero_()
    y[:, [0, 1]] = 0.5
    return y


def boxes(x: Tensor) -> Tensor:
    y = x.sigmoid()
    y[..., 0:2] = (y[..., 0:2] * 2 - 0.5) * 8
    y[..., 2:4] = (y[..., 2:4] * 2) ** 2
    return y


def nothing_written(x: Tensor) -> Tensor:
    y = x + 0
    y[:, 3:1] = 7
    return y


def parts_of_a_split(x: Tensor) -> tuple[Tensor, ...]:
    y = x * 2
    first, second = y.chunk(2, 1)
    y.add_(1)
    return first, second


def layouts(x: Tensor) -> tuple[Tensor, ...]:
    y = x * 2
    same, copy, flat = y.contiguous(), y.transpose(1, 2).contiguous(), F.dropout(y, 0.5, False).flatten(1)
    y.mul_(3)
    return same, copy, flat


def without_gradients(x: Tensor) -> Tensor:
    y = x * 2
    with torch.no_grad():
        y[:, 0].mul_(2)
        y += 1
    return y


def the_input(x: Tensor) -> Tensor:
    x.sub_(0.5)
    x[:, :1].mul_(2)
    return x * 2


def integers(x: Tensor) -> Tensor:
    y = (x * 10).to(torch.int64)
    y += 1
    y[:, 0] = x[:, 0]
    return y


BODIES: list[Body] = [view_then_whole, whole_then_view, views_of_views, from_itself, every_other, boxes]
BODIES += [nothing_written, parts_of_a_split, layouts, without_gradients, the_input, integers]


@pytest.mark.parametrize("body", BODIES, ids=lambda body: body.__name__)
def test_a_graph_without_writes_computes_the_same(body: Body, rng: torch.Generator) -> None:
    x = torch.randn(5, 2, 6, generator=rng)
    exported = trace(Writes(body), (x[:2],))
    assert not [node for node in exported.graph.nodes if writes_in_place(node)]
    exported.validate()
    given = x.clone()
    found = GraphRunner(exported).compute((given,))
    assert torch.equal(given, x)
    expected = body(x.clone())
    for ours, theirs in zip(found, expected if isinstance(expected, tuple) else (expected,), strict=True):
        assert torch.equal(ours, theirs)


def test_a_write_keeps_the_place_of_its_layer() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Dropout(inplace=True), nn.ReLU(inplace=True)).eval()
    exported = trace(model, (torch.rand(2, 3, 5, 5),))
    nodes = {operator_name(node): node for node in exported.graph.nodes if operator_name(node)}
    assert list(nodes) == ["conv2d", "flatten", "dropout", "relu"]
    assert next(iter(nodes["relu"].meta["nn_module_stack"].values()))
    assert list(nodes["relu"].meta["nn_module_stack"].values())[-1][0] == "3"


def test_a_write_that_cannot_be_followed_stays_with_all_others_into_that_tensor(rng: torch.Generator) -> None:
    def body(x: Tensor) -> Tensor:
        y = x * 2
        y[:, 0] = 1
        y.diagonal(0, 1, 2).zero_()
        return y

    x = torch.randn(3, 4, 4, generator=rng)
    exported = trace(Writes(body), (x,))
    assert len([node for node in exported.graph.nodes if writes_in_place(node)]) == 2
    assert torch.equal(GraphRunner(exported).compute((x,))[0], body(x))
