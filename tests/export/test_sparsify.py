"""sparse_initializer exactly where it is smaller, with the same values in onnxruntime."""

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from export.sparsify import Storage, sparsify_initializers, to_sparse


def model_of(codes: np.ndarray) -> onnx.ModelProto:
    graph = helper.make_graph(
        [helper.make_node("DequantizeLinear", ["w", "scale"], ["y"])],
        "g",
        [],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, codes.shape)],
        [numpy_helper.from_array(codes, "w"), numpy_helper.from_array(np.float32(0.5), "scale")],
    )
    return helper.make_model(graph, ir_version=7, opset_imports=[helper.make_opsetid("", 13)])


def run(model: onnx.ModelProto) -> np.ndarray:
    options = ort.SessionOptions()
    options.log_severity_level = 3
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    values: np.ndarray = session.run(None, {})[0]
    return values


@settings(max_examples=60, deadline=None)
@given(
    shape=st.lists(st.integers(1, 12), min_size=1, max_size=4),
    density=st.sampled_from([0.0, 0.02, 0.1, 0.5, 1.0]),
    storage=st.sampled_from(["auto", "dense", "sparse"]),
    seed=st.integers(0, 2**31),
)
def test_onnxruntime_reads_the_same_values(shape: list[int], density: float, storage: Storage, seed: int) -> None:
    rng = np.random.default_rng(seed)
    codes = (rng.integers(-127, 128, shape) * (rng.random(shape) < density)).astype(np.int8)
    model = model_of(codes)
    stored = sparsify_initializers(model.graph, ["w"], storage)["w"]
    onnx.checker.check_model(model)
    sparse = len(model.graph.sparse_initializer) == 1
    assert (stored.storage == "sparse_initializer") == sparse
    assert sparse + len(model.graph.initializer) == 2
    np.testing.assert_array_equal(run(model), codes * np.float32(0.5))
    dense_bytes = model_of(codes).graph.initializer[0].ByteSize()
    sparse_bytes = to_sparse(numpy_helper.from_array(codes, "w")).ByteSize()
    if storage == "auto":
        assert stored.size_bytes == min(dense_bytes, sparse_bytes)
    assert sparse == (storage == "sparse" or (storage == "auto" and sparse_bytes < dense_bytes))


@pytest.mark.parametrize(("zeros", "expected"), [(0.87, "dense"), (0.90, "sparse_initializer")])
def test_the_border_is_eight_ninths(zeros: float, expected: str) -> None:
    codes = np.zeros(100_000, np.int8)
    codes[: round((1 - zeros) * codes.size)] = 3
    assert sparsify_initializers(model_of(codes).graph, ["w"], "auto")["w"].storage == expected


def test_other_initializers_stay() -> None:
    model = model_of(np.zeros((50, 50), np.int8))
    sparsify_initializers(model.graph, ["w"], "auto")
    assert [tensor.name for tensor in model.graph.initializer] == ["scale"]
