"""Every codec gives the same codes in onnxruntime, leaves no decoder in the running graph, and takes the bytes it says.

One model holds a weight in every form at once, so that a session checks them all.
"""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from export.onnx.storage.bitmask import bitmask_part
from export.onnx.storage.bits import SHARED
from export.onnx.storage.constant import constant_part
from export.onnx.storage.decoder import DOMAIN, VERSION, function_proto, required_functions
from export.onnx.storage.dense import dense_native_part, dense_part, dense_width_parts
from export.onnx.storage.fixed_width import fixed_width_parts
from export.onnx.storage.gaps import WIDTHS, gaps_part
from export.onnx.storage.golomb import STEPS, golomb_part
from export.onnx.storage.magnitude_planes import best_radices, magnitude_planes_part
from export.onnx.storage.part import Part, call_nodes, make_tensors, message_bytes, part_bytes, part_nodes
from export.onnx.storage.two_level_mask import BLOCK_SIZES, two_level_mask_part
from export.onnx.storage.weight import CodedWeight

INSTALLED = tuple(int(part) for part in ort.__version__.split(".")[:2])


def draw_codes(rng: np.random.Generator, shape: tuple[int, ...], bits: int, zeros: float) -> np.ndarray:
    """Codes of a b-bit grid: multiplier * level + offset * sign, small levels more often."""
    quant_max = 2 ** (bits - 1) - 1
    multiplier = int(rng.integers(1, 127 // quant_max + 1))
    offset = int(rng.integers(0, 127 - multiplier * quant_max + 1))
    level = np.minimum(quant_max, rng.geometric(0.4, shape))
    codes = (multiplier * level + offset) * rng.choice([-1, 1], shape) * (rng.random(shape) >= zeros)
    return codes.astype(np.int8)


def all_parts(weight: CodedWeight, opset: int = 25) -> list[Part]:
    parts = list(dense_width_parts(weight))
    native = dense_native_part(weight, opset)
    parts += [] if native is None else [native]
    parts += [constant_part(weight)] if weight.alphabet.size == 1 else []
    if weight.nnz:
        levels = [
            *fixed_width_parts(weight),
            *(magnitude_planes_part(weight, radices) for radices in best_radices(weight)),
        ]
        positions = [bitmask_part(weight)]
        positions += [two_level_mask_part(weight, block) for block in BLOCK_SIZES]
        positions += [gaps_part(weight, width) for width in WIDTHS]
        positions += [golomb_part(weight, step) for step in STEPS]
        # Every position with one kind of levels, every kind of levels with one position.
        parts += [levels[0] + position for position in positions]
        parts += [level + positions[index % len(positions)] for index, level in enumerate(levels)]
    return parts


def model_of(weight: CodedWeight, parts: list[Part], *, functions: bool, opset: int) -> onnx.ModelProto:
    """Each part's codes, as float and times the input x: without folding, nothing could be computed ahead."""
    nodes = [node for call in SHARED.values() for node in call_nodes(call, "", "", functions=functions)]
    tensors = []
    for index, part in enumerate(parts):
        own = part_nodes(part, f"{index}", f"codes{index}", functions=functions)
        stored = make_tensors(part, weight, f"{index}", f"codes{index}")
        assert message_bytes(own) + message_bytes(stored) == part_bytes(
            part, f"{index}", f"codes{index}", functions=functions
        )
        nodes += own
        nodes.append(helper.make_node("Cast", [f"codes{index}"], [f"float{index}"], to=TensorProto.FLOAT))
        nodes.append(helper.make_node("Mul", [f"float{index}", "x"], [f"y{index}"], name=f"y{index}"))
        tensors += stored
    outputs = [
        helper.make_tensor_value_info(f"y{index}", TensorProto.FLOAT, weight.shape) for index in range(len(parts))
    ]
    graph = helper.make_graph(
        nodes, "g", [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])], outputs, tensors
    )
    model = helper.make_model(graph, ir_version=8 if opset < 21 else 10, opset_imports=[helper.make_opsetid("", opset)])
    names = required_functions(nodes)
    model.functions.extend(function_proto(name, opset) for name in names)
    if names:
        model.opset_import.append(helper.make_opsetid(DOMAIN, VERSION))
    return model


def check(codes: np.ndarray, folder: Path, *, functions: bool = True, opset: int = 13) -> None:
    weight = CodedWeight(codes)
    parts = all_parts(weight, opset)
    model = model_of(weight, parts, functions=functions, opset=opset)
    onnx.checker.check_model(model)
    for level in (ort.GraphOptimizationLevel.ORT_ENABLE_BASIC, ort.GraphOptimizationLevel.ORT_ENABLE_ALL):
        options = ort.SessionOptions()
        options.graph_optimization_level = level
        options.log_severity_level = 3
        options.optimized_model_filepath = str(folder / "optimized.onnx")
        session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        for part, values in zip(parts, session.run(None, {"x": np.ones(1, np.float32)}), strict=True):
            assert values.shape == codes.shape, part.codec
            np.testing.assert_array_equal(values, codes, err_msg=part.codec)
        running = [node.op_type for node in onnx.load(folder / "optimized.onnx").graph.node]
        assert running == ["Mul"] * len(parts)


@pytest.mark.slow("every codec, many shapes")
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    shape=st.lists(st.integers(1, 11), min_size=1, max_size=4).map(tuple),
    bits=st.integers(2, 8),
    zeros=st.sampled_from([0.0, 0.2, 0.5, 0.9, 0.99, 1.0]),
    functions=st.booleans(),
    seed=st.integers(0, 2**31),
)
def test_every_codec_gives_the_same_codes(
    tmp_path: Path, shape: tuple[int, ...], bits: int, zeros: float, functions: bool, seed: int
) -> None:
    check(draw_codes(np.random.default_rng(seed), shape, bits, zeros), tmp_path, functions=functions)


@pytest.mark.parametrize(
    "codes",
    [
        [5],
        [0],
        [-127, 127],
        [0] * 1000 + [3],
        [3] + [0] * 1000,
        [0] * 255 + [1] + [0] * 254 + [-1] + [0] * 256 + [1],
        [7] * 40,
        list(range(-127, 128)),
    ],
    ids=["one", "one-zero", "extremes", "long-run", "long-end", "escape-borders", "constant", "every-code"],
)
def test_borders(codes: list[int], tmp_path: Path) -> None:
    check(np.array(codes, np.int8), tmp_path)


@pytest.mark.parametrize(
    ("opset", "codec", "release"), [(23, "INT4 dense", (1, 23)), (25, "INT2 dense", (1, 24))], ids=["INT4", "INT2"]
)
def test_native_types_where_the_opset_has_them(
    opset: int, codec: str, release: tuple[int, int], tmp_path: Path, rng: np.random.Generator
) -> None:
    codes = rng.integers(-1, 2, (5, 7)).astype(np.int8)
    assert codec in {part.codec for part in all_parts(CodedWeight(codes), opset)}
    assert codec not in {part.codec for part in all_parts(CodedWeight(codes), opset - 1)}
    if release <= INSTALLED:
        check(codes, tmp_path, opset=opset)


def test_codes_beyond_the_native_type_do_not_use_it() -> None:
    assert dense_native_part(CodedWeight(np.array([8, -7], np.int8)), 25) is None
    assert dense_native_part(CodedWeight(np.array([7, -7], np.int8)), 22) is None


def test_dense_holds_the_codes_as_they_are(rng: np.random.Generator) -> None:
    codes = rng.integers(-9, 9, (3, 4)).astype(np.int8)
    (tensor,) = make_tensors(dense_part(CodedWeight(codes)), CodedWeight(codes), "0", "w")
    assert tensor.name == "w"
    np.testing.assert_array_equal(onnx.numpy_helper.to_array(tensor), codes)


@pytest.mark.parametrize("bits", range(2, 9))
def test_dense_at_the_true_width(bits: int, rng: np.random.Generator) -> None:
    quant_max = 2 ** (bits - 1) - 1
    codes = rng.integers(-quant_max, quant_max + 1, 80_000).astype(np.int8)
    weight = CodedWeight(codes)
    stored = next(dense_width_parts(weight)).fields[0].size_bytes
    # Three codes fit five to a byte: 1.6 bits each.
    assert stored == {2: 16_000}.get(bits, bits * 10_000)


@pytest.mark.parametrize("width", WIDTHS)
def test_gaps_take_their_width(width: int) -> None:
    codes = np.zeros((8000, 2), np.int8)
    codes[:, 1] = 1
    assert gaps_part(CodedWeight(codes), width).fields[0].size_bytes == width * 1000
