"""The standard's sparse form: what it holds, its bytes, and where it pays."""

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from export.onnx.storage.part import message_bytes
from export.onnx.storage.plan import plan_storage
from export.onnx.storage.sparse_initializer import sparse_initializer, sparse_initializer_bytes
from export.onnx.storage.target import TARGETS
from export.onnx.storage.weight import CodedWeight


@settings(max_examples=40, deadline=None)
@given(
    shape=st.lists(st.integers(1, 12), min_size=1, max_size=4),
    density=st.sampled_from([0.0, 0.02, 0.1, 0.5, 1.0]),
    seed=st.integers(0, 2**31),
)
def test_onnxruntime_reads_the_same_values(shape: list[int], density: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    codes = (rng.integers(-127, 128, shape) * (rng.random(shape) < density)).astype(np.int8)
    tensor = sparse_initializer(CodedWeight(codes), "w")
    assert message_bytes([tensor]) == sparse_initializer_bytes(CodedWeight(codes), "w")
    graph = helper.make_graph(
        [helper.make_node("DequantizeLinear", ["w", "scale"], ["y"])],
        "g",
        [],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, codes.shape)],
        [onnx.numpy_helper.from_array(np.float32(0.5), "scale")],
        sparse_initializer=[tensor],
    )
    model = helper.make_model(graph, ir_version=7, opset_imports=[helper.make_opsetid("", 13)])
    onnx.checker.check_model(model)
    options = ort.SessionOptions()
    options.log_severity_level = 3
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    np.testing.assert_array_equal(session.run(None, {})[0], codes * np.float32(0.5))


@pytest.mark.parametrize(("zeros", "expected"), [(0.87, "dense"), (0.90, "sparse_initializer")])
def test_the_border_is_eight_ninths(zeros: float, expected: str) -> None:
    codes = np.zeros(100_000, np.int8)
    codes[: round((1 - zeros) * codes.size)] = 3
    plan = plan_storage({"w": CodedWeight(codes)}, "auto", TARGETS["onnxruntime"], 13)
    assert plan.choices["w"].codec == expected
