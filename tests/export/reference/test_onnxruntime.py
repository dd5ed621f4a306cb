"""Rules of onnxruntime, by hand; test_machine.py holds additions and products of all codes against its kernels."""

import torch
from torch import Tensor
from torch.fx import Graph, Node

from export.reference.machine import Codes
from export.reference.onnxruntime import ONNXRUNTIME

aten = torch.ops.aten


def codes(values: list, scale: float, zero_point: float = 0.0) -> Codes:
    return Codes(torch.tensor(values) - zero_point, torch.tensor(scale), zero_point)


def node(target: object) -> Node:
    return Graph().call_function(target)  # type: ignore[arg-type]


def test_zero_points_are_inside_the_rounding_of_an_addition() -> None:
    pending = ONNXRUNTIME.kernels[aten.add.Tensor](None, codes([10.0], 0.5, 2.0), codes([7.0], 0.25, 3.0))
    assert pending.zero_inside
    assert pending.steps(torch.tensor(0.5), 4.0).tolist() == [8 * 1.0 + 4 * 0.5 + 4]
    assert pending.real().tolist() == [5.0]


def test_padding_of_an_average_counts_where_it_should() -> None:
    image = codes([[[[4.0, 8.0], [12.0, 16.0]]]], 1.0)
    kernel, step = ONNXRUNTIME.kernels[aten.avg_pool2d.default], torch.tensor(1.0)

    def corner(*arguments: object) -> float:
        values: Tensor = kernel(node(aten.avg_pool2d.default), image, *arguments).steps(step, 0.0)
        return values[0, 0, 0, 0].item()

    assert corner([2, 2], [1, 1], [1, 1]) == 1.0
    assert corner(2, 1, 1, False, False) == 4.0


def test_a_part_of_a_concatenation_on_the_result_s_grid_is_copied() -> None:
    parts = [codes([3.0], 0.1, 5.0), codes([3.0], 0.3, 5.0)]
    pending = ONNXRUNTIME.kernels[aten.cat.default](node(aten.cat.default), parts)
    copied, requantized = pending.steps(torch.tensor(0.1), 5.0).tolist()
    assert copied == -2.0
    assert requantized == torch.tensor(-2.0).mul(torch.tensor(0.3)).div(torch.tensor(0.1)).item()


def test_clamps_are_left_to_floats() -> None:
    assert not ONNXRUNTIME.clamps
