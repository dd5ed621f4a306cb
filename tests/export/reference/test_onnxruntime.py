"""Rules of onnxruntime, by hand; test_machine.py holds additions and products of all codes against its kernels."""

import numpy as np
import torch
from torch import Tensor
from torch.fx import Graph, Node

from export.reference.machine import Codes
from export.reference.onnxruntime import ONNXRUNTIME
from tests.export.onnx.passes.graphs import model, run

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


def test_bilinear_resizes_are_the_kernel_s_to_the_last_bit() -> None:
    """What lies midway between two codes, as halves do on one grid, must be rounded to the same one."""
    rng = np.random.default_rng(0)
    resize = ONNXRUNTIME.kernels[aten.upsample_bilinear2d.vec]
    for turn in range(40):
        channels, height, width = (int(n) for n in rng.integers(1, [6, 14, 14]))
        factors = [float(n) for n in rng.choice([0.5, 1.0, 1.3, 2.0, 3.0, 4.0], 2)] if turn % 2 else None
        sizes = [int(n) for n in rng.integers(1, 30, 2)] if factors is None else None
        align = turn % 4 == 0
        codes = rng.integers(0, 256, (2, channels, height + 1, width + 1)).astype(np.uint8)
        shape = ", ".join(map(str, codes.shape))
        if factors is None:
            operand, constant = ", n", f"int64[4] n = {{2, {channels}, {sizes[0]}, {sizes[1]}}}"  # type: ignore[index]
        else:
            operand, constant = "n", f"float[4] n = {{1.0, 1.0, {factors[0]}, {factors[1]}}}"
        mode = "align_corners" if align else "half_pixel"
        found = run(
            model(
                f"g (uint8[{shape}] x) => (float[a, b, c, d] y) <float s = {{0.0371}}, uint8 z = {{77}}, {constant}> "
                f"{{f = DequantizeLinear(x, s, z) "
                f'y = Resize<mode="linear", coordinate_transformation_mode="{mode}">(f, , {operand})}}'
            ),
            codes,
        )
        x = Codes(torch.from_numpy(codes).float() - 77, torch.tensor(0.0371), 77.0)
        expected = resize(node(aten.upsample_bilinear2d.vec), x, sizes, align, factors).real()
        assert np.array_equal(found, expected.numpy()), (codes.shape, sizes, factors, mode)


def test_clamps_are_left_to_floats() -> None:
    assert not ONNXRUNTIME.clamps
