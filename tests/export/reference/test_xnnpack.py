"""Rules of XNNPACK, by hand; every export to LiteRT in tests/export/tflite holds them against its kernels."""

import numpy as np
import pytest
import torch
from torch import fx

from export.reference.machine import Codes, _clamp
from export.reference.xnnpack import XNNPACK
from export.tflite.file.graph import Graph, TensorGrid
from export.tflite.file.graph import Tensor as FileTensor

aten = torch.ops.aten


def codes(values: list, scale: float) -> Codes:
    return Codes(torch.tensor(values), torch.tensor(scale))


def node(target: object) -> fx.Node:
    return fx.Graph().call_function(target)  # type: ignore[arg-type]


def test_additions_round_half_up() -> None:
    add = XNNPACK.kernels[aten.add.Tensor]
    steps = add(None, codes([1.0, -1.0, 3.0], 0.5), codes([0.0, 0.0, 0.0], 0.5)).steps(torch.tensor(1.0), 0.0)
    assert steps.tolist() == [1.0, 0.0, 2.0]


def test_products_are_rounded_with_the_other_values() -> None:
    pending = XNNPACK.kernels[aten.mul.Tensor](None, codes([3.0], 0.5), codes([5.0], 0.5))
    assert pending.steps(torch.tensor(0.5), 9.0).tolist() == [7.5]
    assert not pending.zero_inside


def kernel_mean(codes: np.ndarray, x: TensorGrid, y: TensorGrid) -> np.ndarray:
    """What LiteRT computes of int8 codes `(N, H, W, C)`."""
    from export.tflite.file.flatbuffer import write
    from export.tflite.run import allocate, open_interpreter

    n, _, _, channels = codes.shape
    graph = Graph()
    graph.inputs["x"] = graph.add_tensor(FileTensor("x", codes.shape, codes.dtype, None, x))
    axes = graph.add_tensor(FileTensor("axes", (2,), np.dtype(np.int32), np.array([1, 2], np.int32)))
    graph.outputs["y"] = graph.add_tensor(FileTensor("y", (n, 1, 1, channels), codes.dtype, None, y))
    graph.add_operator("MEAN", 2, [graph.inputs["x"], axes], graph.outputs["y"], {"keepDims": True})
    session = open_interpreter(write(graph, {}))
    allocate(session)
    session.set_tensor(session.get_input_details()[0]["index"], codes)
    session.invoke()
    found: np.ndarray = session.get_tensor(session.get_output_details()[0]["index"])
    return found


def test_means_next_to_ties_are_the_kernel_s() -> None:
    """The result's scale puts one mean next to the middle between two codes, where each rounding shows."""
    pytest.importorskip("ai_edge_litert", reason="LiteRT is an extra")
    rng = np.random.default_rng(0)
    mean = XNNPACK.kernels[aten.adaptive_avg_pool2d.default]
    for _ in range(200):
        height, width = rng.integers(1, 15), rng.integers(1, 40)
        zero, result_zero = (int(value) for value in rng.integers(-128, 128, 2))
        shifts = rng.integers(-100, 100, (2, 1, 1, 65))
        int8 = np.clip(rng.integers(-20, 20, (2, height, width, 65)) + shifts, -128, 127).astype(np.int8)
        x = Codes(torch.from_numpy(int8).permute(0, 3, 1, 2).float() - zero, torch.tensor(0.02), zero + 128.0)
        largest = float(x.centered.sum((2, 3)).abs().max()) / (height * width)
        scale = torch.tensor(0.02 * largest / (int(rng.integers(1, 250)) + 0.5), dtype=torch.float32)
        steps = mean(node(aten.adaptive_avg_pool2d.default), x, [1, 1]).steps(scale, result_zero + 128.0)
        expected = steps.round().clamp(0, 255).permute(0, 2, 3, 1).numpy() - 128
        grids = (TensorGrid(np.float32([0.02]), zero), TensorGrid(scale.reshape(1).numpy(), result_zero))
        assert np.array_equal(kernel_mean(int8, *grids), expected)


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
