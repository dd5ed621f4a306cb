"""Buffers that forward writes: in a file as inputs and outputs, or refused by name; the caller's own never change."""

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from torch import Tensor, nn

import codeq
from codeq.graph.inputs import Inputs
from export import ExportError, check_parity, export_onnx
from export.onnx.sessions import EXACT_SESSION_OPTIONS


class Stream(nn.Module):
    """A convolution over what was left of the last call and a chunk, and a gain that follows the chunks."""

    cache: Tensor
    gain: Tensor
    calls: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv1d(3, 4, 3)
        self.register_buffer("cache", torch.zeros(2, 3, 2))
        self.register_buffer("gain", torch.linspace(0.5, 2, 4))
        self.register_buffer("calls", torch.zeros((), dtype=torch.int64))

    def forward(self, x: Tensor) -> Tensor:
        y = torch.cat([self.cache, x], 2)
        self.cache.copy_(x[:, :, -2:])
        self.gain = 0.5 * self.gain + x.abs().mean()
        self.calls += 1
        return self.conv(y).mean(2) * self.gain


@pytest.fixture
def stream() -> nn.Module:
    torch.manual_seed(0)
    model = Stream().eval()
    codeq.attach(model, 4, grid="integer")
    codeq.freeze(model)
    return model


def test_state_is_fed_back_over_a_sequence(stream: Any, tmp_path: Path, rng: torch.Generator) -> None:
    x = torch.randn(2, 3, 5, generator=rng)
    report = export_onnx(stream, (x,), tmp_path / "net.onnx", state="io")
    assert report.verdict.ok
    assert [note.partition(" ")[0] for note in report.notes] == ["cache", "gain", "calls:"]
    assert (int(stream.calls), float(stream.cache.abs().max())) == (0, 0)
    assert stream.gain.tolist() == [0.5, 1, 1.5, 2]

    options = ort.SessionOptions()
    for key, value in EXACT_SESSION_OPTIONS.items():
        options.add_session_config_entry(key, value)
    session = ort.InferenceSession(report.path, options)
    assert [item.name for item in session.get_inputs()] == ["input", "cache", "gain"]
    assert [item.name for item in session.get_outputs()] == ["output", "cache_output", "gain_output"]
    (entry,) = onnx.load(report.path).metadata_props
    described = json.loads(entry.value)["state"]
    assert described[0] == {
        "input": "cache",
        "output": "cache_output",
        "dtype": "float32",
        "shape": [2, 3, 2],
        "initial": 0.0,
    }
    assert described[1]["initial"] == [0.5, 1.0, 1.5, 2.0]
    state = {"cache": np.zeros((2, 3, 2), np.float32), "gain": np.array([0.5, 1, 1.5, 2], np.float32)}
    network = copy.deepcopy(stream)
    for chunk in torch.randn(4, 2, 3, 5, generator=rng):
        found, state["cache"], state["gain"] = session.run(None, {"input": chunk.numpy(), **state})
        with torch.no_grad():
            np.testing.assert_allclose(found, network(chunk).numpy(), atol=1e-6)
    assert check_parity(report.path, stream, (x,)).ok


def test_a_file_that_feeds_back_the_wrong_state_fails(stream: Any, tmp_path: Path) -> None:
    """Its first call is right: only a sequence shows it."""
    x = torch.ones(2, 3, 5)
    report = export_onnx(stream, (x,), tmp_path / "net.onnx", state="io")
    proto = onnx.load(report.path)
    left = next(node for node in proto.graph.node if "cache_output" in node.output)
    left.output[0] = "unread"
    proto.graph.node.append(onnx.helper.make_node("Identity", ["cache"], ["cache_output"]))
    onnx.save(proto, report.path)
    verdict = check_parity(report.path, stream, (x,))
    assert "max_abs_error" in verdict.first_failure
    assert verdict.first_failure.startswith("output at disable_all")


class Fades(nn.Module):
    """Its batch is open, and each call answers with half as much as the one before."""

    gain: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv1d(3, 4, 3)
        self.register_buffer("gain", torch.ones(()))

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x) * self.gain
        self.gain.mul_(0.5)
        return y


@pytest.mark.parametrize("activations", ["float32", "int8"])
@pytest.mark.parametrize("backend", ["onnx", "tflite"])
def test_state_that_is_not_asked_for_is_refused_by_name(backend: str, activations: Any, tmp_path: Path) -> None:
    export: Any = export_onnx
    if backend == "tflite":
        pytest.importorskip("ai_edge_litert", reason="LiteRT is an extra: pip install '.[tflite]'")
        from export.tflite import export_tflite as export
    model = Fades().eval()
    codeq.attach(model, 4, grid="integer")
    codeq.freeze(model)
    with pytest.raises(ExportError, match=r"^the buffer 'gain' is state: [^\n]+ --state io$"):
        export(model, (torch.ones(2, 3, 5),), tmp_path / "net", activations=activations)
    assert list(tmp_path.iterdir()) == []
    assert model.gain == 1


def test_state_is_for_float_activations_and_for_networks_that_have_some(stream: Any, tmp_path: Path) -> None:
    x: Inputs = (torch.ones(2, 3, 5),)
    with pytest.raises(ExportError, match="--state io: found --activations int8"):
        export_onnx(stream, x, tmp_path / "net.onnx", state="io", activations="int8")
    with pytest.raises(ExportError, match="--state io: Conv1d has no buffer that one call leaves for the next"):
        export_onnx(nn.Conv1d(3, 4, 3), x, tmp_path / "net.onnx", state="io")


class Ages(nn.Module):
    """Counts its calls and follows its inputs, and answers with neither."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.register_buffer("calls", torch.zeros((), dtype=torch.int64))
        self.register_buffer("mean", torch.zeros(3))

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        with torch.no_grad():
            self.mean.mul_(0.9).add_(0.1 * x.mean((0, 2, 3)))
        return self.conv(x).relu_()


@pytest.mark.parametrize("activations", ["float32", "int8"])
def test_what_no_output_reads_is_left_out_and_said_so(activations: Any, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = Ages().eval()
    codeq.attach(model, 4, grid="integer")
    codeq.freeze(model)
    report = export_onnx(model, (torch.randn(3, 3, 6, 6),), tmp_path / "net.onnx", activations=activations)
    assert report.notes == tuple(
        f"{name}: forward writes it and no output reads it; the file leaves it out" for name in ("calls", "mean")
    )
    assert int(model.calls) == 0  # type: ignore[operator]
    assert not model.mean.any()  # type: ignore[operator, union-attr]
