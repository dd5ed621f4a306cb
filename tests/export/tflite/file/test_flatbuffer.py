"""The writer: what was put in is read back, data is aligned, and the same graph gives the same bytes."""

import numpy as np
import pytest

pytest.importorskip("ai_edge_litert", reason="LiteRT is an extra: pip install '.[tflite]'")

from export.errors import ExportError
from export.tflite.file import flatbuffer
from export.tflite.file.flatbuffer import ALIGNMENT, read, read_metadata, tensors_by_name, text_of, with_outputs, write
from export.tflite.file.graph import Graph, Tensor, TensorGrid
from export.tflite.weights.layout import StoredLayout

pytestmark = pytest.mark.quick

FLOAT = np.dtype(np.float32)


def scaled(codes: np.ndarray) -> Graph:
    """x + dequantize(codes)."""
    graph = Graph()
    grid = TensorGrid(np.array([0.5, 0.25], np.float32), 0, 0)
    x = graph.add_tensor(Tensor("x", (1, 3), FLOAT, open_batch=(0,)))
    stored = graph.add_tensor(Tensor("w_quantized", codes.shape, codes.dtype, codes, grid))
    same = graph.add_tensor(Tensor("w_again", codes.shape, codes.dtype, codes, grid))
    weight = graph.add_tensor(Tensor("w", codes.shape, FLOAT))
    result = graph.add_tensor(Tensor("y", codes.shape, FLOAT))
    graph.add_operator("DEQUANTIZE", 5, [stored], weight, {})
    graph.add_operator("ADD", 1, [x, weight], result, {"fusedActivationFunction": 0})
    graph.inputs["x"], graph.outputs["y"] = x, result
    assert same
    return graph


@pytest.fixture
def codes() -> np.ndarray:
    return np.array([[1, -127, 0], [4, 5, 127]], np.int8)


def test_bytes_are_the_same(codes: np.ndarray) -> None:
    assert write(scaled(codes), {"codeq": "{}"}) == write(scaled(codes), {"codeq": "{}"})


def test_what_is_written_is_read_back(codes: np.ndarray) -> None:
    model = read(write(scaled(codes), {"codeq": '{"a": 1}'}))
    data, tensor = tensors_by_name(model)["w_quantized"]
    assert data is not None
    assert np.array_equal(data, codes)
    assert tensor.quantization.scale.tolist() == [0.5, 0.25]
    assert read_metadata(model, "codeq") == '{"a": 1}'
    assert read_metadata(model, "other") is None


def test_data_is_aligned_and_stored_once(codes: np.ndarray) -> None:
    data = write(scaled(codes), {})
    assert data.count(codes.tobytes()) == 1
    assert data.index(codes.tobytes()) % ALIGNMENT == 0
    assert len(data) % ALIGNMENT == 0


def test_further_outputs(codes: np.ndarray) -> None:
    from export.tflite.run import BUILTIN, allocate, open_interpreter

    data = with_outputs(write(scaled(codes), {}), ["w"])
    session = open_interpreter(data, BUILTIN)
    allocate(session)
    session.set_tensor(session.get_input_details()[0]["index"], np.zeros((1, 3), np.float32))
    session.invoke()
    result, weight = (session.get_tensor(detail["index"]) for detail in session.get_output_details())
    assert weight.tolist() == [[0.5, -63.5, 0.0], [1.0, 1.25, 31.75]]
    assert np.array_equal(result, weight)
    with pytest.raises(ExportError, match="has no tensor 'missing'"):
        with_outputs(data, ["missing"])


def test_further_outputs_as_int32(codes: np.ndarray) -> None:
    from export.tflite.run import BUILTIN, allocate, open_interpreter

    data = write(scaled(codes), {})
    stored = next(text_of(tensor.name) for tensor in read(data).subgraphs[0].tensors if tensor.buffer)
    session = open_interpreter(with_outputs(data, ["w", stored], widened=[stored]), BUILTIN)
    allocate(session)
    session.set_tensor(session.get_input_details()[0]["index"], np.zeros((1, 3), np.float32))
    session.invoke()
    _, weight, widened = (session.get_tensor(detail["index"]) for detail in session.get_output_details())
    assert (weight.dtype, widened.dtype) == (np.float32, np.int32)
    assert np.array_equal(widened, codes)


def test_another_file_is_refused() -> None:
    with pytest.raises(ExportError, match=r"no \.tflite file"):
        read(b"0123456789")


def test_a_layout_is_undone(codes: np.ndarray) -> None:
    layout = StoredLayout((2, 3, 1), (2, 0, 1), (1, 6))
    stored = layout.store(codes)
    assert stored.shape == (1, 6)
    assert np.array_equal(layout.restore(stored, codes.shape), codes)


def test_a_file_beyond_two_gigabytes_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flatbuffer, "LIMIT", 100)
    graph = Graph()
    graph.add_tensor(Tensor("weight", (101,), np.dtype(np.int8), np.ones(101, np.int8)))
    with pytest.raises(ExportError, match=r"the file would take 101 bytes; a \.tflite file ends at 100"):
        write(graph, {})
