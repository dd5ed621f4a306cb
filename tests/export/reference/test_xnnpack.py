"""Rules of XNNPACK, by hand; every export to LiteRT in tests/export/tflite holds them against its kernels."""

import pytest
import torch
from torch.fx import Graph, Node

from export.reference.machine import Codes, _clamp
from export.reference.xnnpack import XNNPACK

aten = torch.ops.aten


def codes(values: list, scale: float) -> Codes:
    return Codes(torch.tensor(values), torch.tensor(scale))


def node(target: object) -> Node:
    return Graph().call_function(target)  # type: ignore[arg-type]


def test_additions_round_half_up() -> None:
    add = XNNPACK.kernels[aten.add.Tensor]
    steps = add(None, codes([1.0, -1.0, 3.0], 0.5), codes([0.0, 0.0, 0.0], 0.5)).steps(torch.tensor(1.0), 0.0)
    assert steps.tolist() == [1.0, 0.0, 2.0]


def test_products_are_rounded_with_the_other_values() -> None:
    pending = XNNPACK.kernels[aten.mul.Tensor](None, codes([3.0], 0.5), codes([5.0], 0.5))
    assert pending.steps(torch.tensor(0.5), 9.0).tolist() == [7.5]
    assert not pending.zero_inside


@pytest.mark.parametrize(
    ("target", "arguments", "expected"),
    [
        (aten.adaptive_avg_pool2d.default, ([1, 1],), 2.5),
        (aten.avg_pool2d.default, ([2, 2],), 2.5),
        (aten.avg_pool2d.default, ([2, 1],), 2.0),
    ],
)
def test_means(target: object, arguments: tuple, expected: float) -> None:
    pending = XNNPACK.kernels[target](node(target), codes([[[[1.0, 2.0], [3.0, 4.0]]]], 0.5), *arguments)
    assert pending.steps(torch.tensor(0.5), 0.0).flatten()[0].item() == expected


def test_codes_go_to_another_grid_by_a_fraction_of_256() -> None:
    parts = [codes([100.0], 0.1), codes([100.0], 0.0333)]
    pending = XNNPACK.kernels[aten.cat.default](node(aten.cat.default), parts)
    copied, moved = pending.steps(torch.tensor(0.1), 0.0).tolist()
    assert copied == 100.0
    assert moved == (100 * round(256 * 0.333) + 128) // 256 == 33


def test_a_concatenation_on_one_grid_moves_codes() -> None:
    same, other = codes([1.0], 0.5), codes([1.0], 0.25)
    assert not XNNPACK.requantizes(node(aten.cat.default), [same, same])
    assert XNNPACK.requantizes(node(aten.cat.default), [same, other])


def test_a_clamp_clips_codes() -> None:
    pending = XNNPACK.kernels[aten.mul.Tensor](None, codes([-3.0, 30.0], 1.0), codes([1.0, 1.0], 1.0))
    clamped = _clamp(pending, 0.0, 6.0)
    assert clamped.steps(torch.tensor(0.5), 3.0).tolist() == [0.0, 12.0]
    assert clamped.real().tolist() == [0.0, 6.0]
