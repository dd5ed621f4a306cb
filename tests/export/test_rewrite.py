"""A file is written anew from its network and its metadata, byte for byte, whatever it was asked to be."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from export import ExportError, check_parity, export_onnx
from export.backend import BACKENDS, Backend, backend_of, get_backend
from export.materialize import materialize
from export.rewrite import compare_rewritten, recorded_request
from tests.small_network import Small, X, made


class Two(nn.Module):
    """A network of two inputs by name, and two outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(6, 6)

    def forward(self, left: Tensor, right: Tensor) -> dict[str, Tensor]:
        return {"sum": torch.relu(self.layer(left)) + right, "left": self.layer(left)}


class Counter(nn.Module):
    """A network that keeps a state."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)
        self.register_buffer("state", torch.zeros(2, 4))

    def forward(self, x: Tensor) -> Tensor:
        self.state = self.state * 0.5 + self.layer(x)
        return torch.relu(self.state)


@pytest.fixture(scope="module")
def small() -> nn.Module:
    return made(Small(), grid_limit=7)


ONNX: tuple[dict[str, Any], ...] = (
    {},
    {"storage": "dense"},
    {"storage": "sparse"},
    {"storage": "packed"},
    {"activations": "int8"},
    {"activations": "int8", "storage": "smallest", "activations_except": ["depthwise"], "ranges": "min-max"},
    {"opset": 17, "dynamic_batch": False},
    {"debug_info": True, "target": "portable"},
    {"external_data_threshold": 10},
    {"checkpoint_sha256": "ab", "preprocessing": {"mean": [0.5]}},
)
TFLITE: tuple[dict[str, Any], ...] = (
    {},
    {"sparse": "off"},
    {"int4": True},
    {"hybrid": True},
    {"layout": "nhwc"},
    {"activations": "int8"},
    {"activations": "int8", "io": "int8", "layout": "nhwc"},
    {"activations": "int8", "int4": True},
)


def name_of(options: dict[str, Any]) -> str:
    return ",".join(f"{key}={value}" for key, value in options.items()) or "default"


def holds_strictly(path: Path, model: nn.Module, inputs: Any) -> None:
    verdict = check_parity(path, model, inputs, strict=True)
    assert verdict.ok, verdict
    assert verdict.file is not None
    assert verdict.file.differences == verdict.file.notes == ()
    assert "file      as written anew, byte for byte: ok" in str(verdict)


@pytest.mark.parametrize("options", ONNX, ids=name_of)
def test_an_onnx_file_is_written_again(small: nn.Module, tmp_path: Path, options: dict[str, Any]) -> None:
    path = tmp_path / "net.onnx"
    export_onnx(small, X, path, **options)
    holds_strictly(path, small, X)


@pytest.mark.parametrize("options", TFLITE, ids=name_of)
def test_a_tflite_file_is_written_again(small: nn.Module, tmp_path: Path, options: dict[str, Any]) -> None:
    pytest.importorskip("ai_edge_litert", reason="LiteRT is an extra: pip install '.[tflite]'")
    from export.tflite import export_tflite

    path = tmp_path / "net.tflite"
    export_tflite(small, X, path, **options)
    holds_strictly(path, small, X)


@pytest.mark.parametrize("storage", ["auto", "packed"])
def test_a_file_that_was_made_dense(small: nn.Module, tmp_path: Path, storage: Any) -> None:
    export_onnx(small, X, tmp_path / "net.onnx", storage=storage)
    materialize(tmp_path / "net.onnx", tmp_path / "dense.onnx")
    holds_strictly(tmp_path / "dense.onnx", small, X)


def test_state_and_several_inputs(tmp_path: Path) -> None:
    counter, x = made(Counter()), torch.randn(2, 4)
    export_onnx(counter, x, tmp_path / "state.onnx", state="io")
    holds_strictly(tmp_path / "state.onnx", counter, x)
    two, inputs = made(Two()), {"left": torch.randn(3, 6), "right": torch.randn(3, 6)}
    for activations in ("float32", "int8"):
        path = tmp_path / f"{activations}.onnx"
        export_onnx(two, inputs, path, activations=activations)  # type: ignore[arg-type]
        holds_strictly(path, two, inputs)


def test_a_copy_under_another_name(small: nn.Module, tmp_path: Path) -> None:
    export_onnx(small, X, tmp_path / "net.onnx")
    (tmp_path / "net.onnx").rename(tmp_path / "other.onnx")
    holds_strictly(tmp_path / "other.onnx", small, X)


def test_a_file_published_although_it_does_not_hold(
    small: nn.Module, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from export.onnx.runner import OnnxruntimeRunner

    path = tmp_path / "net.onnx"
    with monkeypatch.context() as patch:
        patch.setattr(OnnxruntimeRunner, "finish", lambda self, outputs: [outputs[0] + 1, *outputs[1:]])
        export_onnx(small, X, path, accept_mismatch=True)
    verdict = check_parity(path, small, X)
    assert verdict.ok, "it is listed"
    assert verdict.file is not None
    (difference,) = verdict.file.differences
    assert difference.text.startswith("metadata: says that parity does not hold, and it does: output at ")
    assert not check_parity(path, small, X, strict=True).ok


def stored_with(path: Path, **metadata: Any) -> tuple[Backend, Any]:
    backend = backend_of(path)
    stored: Any = backend.read(path)
    return backend, dataclasses.replace(stored, metadata=dataclasses.replace(stored.metadata, **metadata))


def test_an_older_file_tells_some_of_its_options(small: nn.Module, tmp_path: Path) -> None:
    """Before `options` were recorded."""
    path = tmp_path / "net.onnx"
    export_onnx(small, X, path, storage="packed", target="portable")
    request: Any = recorded_request(*stored_with(path, options={}))
    assert (request.storage, request.target, request.opset) == ("packed", "portable", None)


@pytest.mark.parametrize(
    "options", [{"storage": "none"}, {"opset": "17"}, {"opset": True}, {"force": True}, {"unknown": 1}, {"opset": 0}]
)
def test_options_that_there_are_not(small: nn.Module, tmp_path: Path, options: dict[str, Any]) -> None:
    path = tmp_path / "net.onnx"
    export_onnx(small, X, path)
    with pytest.raises(ExportError, match=r"its metadata is damaged \("):
        recorded_request(*stored_with(path, options=options))


def test_what_cannot_be_written_again_is_a_difference(small: nn.Module, tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    export_onnx(small, X, path)
    comparison = compare_rewritten(*stored_with(path, options={"opset": 5}), small, X)
    assert "cannot be written anew with the options that it records: " in comparison.first_failure


def test_files_of_a_converter_are_not_compared(small: nn.Module, tmp_path: Path) -> None:
    pytest.importorskip("ai_edge_litert", reason="LiteRT is an extra: pip install '.[tflite]'")
    from export.tflite import export_tflite

    path = tmp_path / "net.tflite"
    export_tflite(small, X, path)
    backend = get_backend("tflite")
    stored: Any = backend.read(path)
    ours = dataclasses.replace(stored, writer="litert-torch")
    assert backend.incomparable(ours) == "", "it says that it is ours"
    stored.content.description = b"MLIR Converted."
    comparison = compare_rewritten(backend, dataclasses.replace(stored, writer="litert-torch"), small, X, strict=True)
    assert comparison.notes == ("the file was not written anew to compare it: litert-torch converted it",)
    assert not comparison.first_failure


def test_every_option_of_a_request_is_plain() -> None:
    """It is recorded as JSON."""
    for name in BACKENDS:
        for option, default in get_backend(name).request.own_fields().items():
            assert isinstance(default, str | int | bool | None), option
