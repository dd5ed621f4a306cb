"""Rules of XNNPACK, by hand; every export to LiteRT in tests/export/tflite holds them against its kernels."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import fx

from export.reference.machine import Codes, _clamp, quantize
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


def run_kernel(graph: Graph, codes: np.ndarray) -> np.ndarray:
    """What LiteRT computes of int8 codes; all operators must be XNNPACK's."""
    from export.tflite.file.flatbuffer import write
    from export.tflite.run import allocate, open_interpreter

    session = open_interpreter(write(graph, {}))
    number = session.get_input_details()[0]["index"]
    session.resize_tensor_input(number, codes.shape)
    allocate(session)
    assert session._get_ops_details()[-1]["op_name"] == "DELEGATE"
    session.set_tensor(number, codes)
    session.invoke()
    found: np.ndarray = session.get_tensor(session.get_output_details()[0]["index"])
    return found


def random_codes(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Codes of all sizes, or of both extremes alone."""
    extremes = rng.random() < 0.2
    return (rng.choice([-128, 127], shape) if extremes else rng.integers(-128, 128, shape)).astype(np.int8)


def centered(codes: np.ndarray, zero_point: int, scale: float) -> Codes:
    values = torch.from_numpy(codes).permute(0, 3, 1, 2).float() - zero_point
    return Codes(values, torch.tensor(scale), zero_point + 128.0)


def on_grid(pending: Any, scale: float, zero_point: int) -> np.ndarray:
    steps = pending.steps(torch.tensor(scale), zero_point + 128.0).round() + zero_point
    found: np.ndarray = steps.clamp(-128, 127).permute(0, 2, 3, 1).numpy()
    return found


def resize_node() -> fx.Node:
    graph = fx.Graph()
    resized = graph.call_function(aten.upsample_bilinear2d.vec)
    graph.call_function(quantize, (resized,))
    return resized


def test_bilinear_resizes_are_the_kernel_s() -> None:
    """Larger and smaller, corners aligned or not, a batch that is not the file's."""
    pytest.importorskip("ai_edge_litert", reason="LiteRT is an extra")
    rng = np.random.default_rng(0)
    resize, scale = XNNPACK.kernels[aten.upsample_bilinear2d.vec], 0.1
    for turn in range(60):
        align, channels, zero = bool(turn % 2), int(rng.integers(1, 40)), int(rng.integers(-128, 128))
        height, width, *factors = (int(n) for n in rng.integers(1, [20, 20, 5, 5]))
        sizes = [height * factors[0], width * factors[1]] if turn % 5 else [int(n) for n in rng.integers(1, 40, 2)]
        grid, int8 = TensorGrid(np.float32([scale]), zero), random_codes(rng, (turn % 3 + 1, height, width, channels))
        graph = Graph()
        graph.inputs["x"] = graph.add_tensor(FileTensor("x", (1, *int8.shape[1:]), int8.dtype, None, grid, (0,)))
        size = graph.add_tensor(FileTensor("size", (2,), np.dtype(np.int32), np.array(sizes, np.int32)))
        graph.outputs["y"] = graph.add_tensor(FileTensor("y", (1, *sizes, channels), int8.dtype, None, grid, (0,)))
        options = {"alignCorners": align, "halfPixelCenters": not align}
        graph.add_operator("RESIZE_BILINEAR", 3, [graph.inputs["x"], size], graph.outputs["y"], options)
        expected = on_grid(resize(resize_node(), centered(int8, zero, scale), sizes, align, None), scale, zero)
        assert np.array_equal(run_kernel(graph, int8), expected), (int8.shape, sizes, align)


def test_a_resize_without_a_quantizer_computes_floats() -> None:
    resize = XNNPACK.kernels[aten.upsample_bilinear2d.vec]
    x = Codes(torch.tensor([[[[1.0, 2.0]]]]), torch.tensor(1.0), 0.0)
    arguments = (x, [1, 4], False, None)
    of_codes, of_floats = (resize(n, *arguments) for n in (resize_node(), node(aten.upsample_bilinear2d.vec)))
    assert of_codes.steps(torch.tensor(1.0), 0.0).flatten().tolist() == [1, 1, 2, 2]
    assert of_floats.steps(torch.tensor(1.0), 0.0).flatten().tolist() == [1, 1.25, 1.75, 2]
    assert of_codes.steps(torch.tensor(0.5), 0.0).flatten().tolist() == [2, 2.5, 3.5, 4]


def test_transposed_convolutions_are_the_kernel_s() -> None:
    """Steps wider than the kernel, outputs that it does not reach, clamps; the shape in the file is of a batch of 1."""
    pytest.importorskip("ai_edge_litert", reason="LiteRT is an extra")
    rng = np.random.default_rng(0)
    target = aten.conv_transpose2d.input
    for turn in range(60):
        height, width, *kernel = (int(n) for n in rng.integers(1, [8, 8, 6, 6]))
        inputs, outputs, *step = (int(n) for n in rng.integers(1, [40, 40, 4, 4]))
        more = [int(rng.integers(0, s)) if turn % 3 == 0 else 0 for s in step]
        zero, result_zero = (int(n) for n in rng.integers(-128, 128, 2))
        int8 = random_codes(rng, (turn % 3 + 1, height, width, inputs))
        weight = rng.integers(-127, 128, (outputs, *kernel, inputs)).astype(np.int8)
        bias = rng.integers(-30000, 30000, outputs).astype(np.int32)
        weight_scale = rng.uniform(0.001, 0.05, outputs).astype(np.float32)
        x = centered(int8, zero, float(np.float32(0.05)))
        arguments = (
            Codes(torch.from_numpy(weight).permute(3, 0, 1, 2), torch.from_numpy(weight_scale), axis=1),
            Codes(torch.from_numpy(bias), x.scale * torch.from_numpy(weight_scale), axis=0),
            step,
            [0, 0],
            more,
        )
        pending = XNNPACK.kernels[target](node(target), x, *arguments)
        values = pending.real()
        scale = float(np.float32(values.std().nan_to_num(1.0) + 0.01)) / int(rng.integers(10, 60))
        activation, limits = ((0, None), (1, (0.0, float("inf"))), (3, (0.0, 6.0)))[turn // 3 % 3]
        if limits is not None:
            pending = _clamp(pending, *limits)
        graph = Graph()
        grids = [TensorGrid(np.float32([s]), z) for s, z in ((0.05, zero), (scale, result_zero))]
        shape = (1, *values.shape[2:], outputs)
        graph.inputs["x"] = graph.add_tensor(FileTensor("x", (1, *int8.shape[1:]), int8.dtype, None, grids[0], (0,)))
        operands = [
            FileTensor("shape", (4,), np.dtype(np.int32), np.array(shape, np.int32)),
            FileTensor("w", weight.shape, weight.dtype, weight, TensorGrid(weight_scale)),
            FileTensor("b", bias.shape, bias.dtype, bias, TensorGrid(grids[0].scale * weight_scale)),
        ]
        size, w, b = (graph.add_tensor(tensor) for tensor in operands)
        graph.outputs["y"] = graph.add_tensor(FileTensor("y", shape, int8.dtype, None, grids[1], (0,)))
        options = {"padding": 1, "strideH": step[0], "strideW": step[1], "fusedActivationFunction": activation}
        version = 4 if activation else 3
        graph.add_operator("TRANSPOSE_CONV", version, [size, w, graph.inputs["x"], b], graph.outputs["y"], options)
        expected = on_grid(pending, float(np.float32(scale)), result_zero)
        assert np.array_equal(run_kernel(graph, int8), expected), (int8.shape, weight.shape, step, more, activation)


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
