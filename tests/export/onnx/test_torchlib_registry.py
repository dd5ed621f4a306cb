"""torch.onnx parses its library once per process, for our exports alone, and private names that it needs are there."""

import inspect
import logging
import threading
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import codeq
from export import export_onnx
from export.onnx import torchlib_registry
from export.onnx.torchlib_registry import find_hooks, parse_once

RENAMED = (
    "torch or onnxscript renamed what export/onnx/torchlib_registry.py hooks: exports are slow again until it follows"
)


def export(path: Path) -> bytes:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 2, 1), nn.AdaptiveAvgPool2d(1))
    codeq.attach(model)
    export_onnx(model.eval(), (torch.randn(2, 1, 3, 3),), path)
    return path.read_bytes()


def in_place() -> list[Any]:
    return [vars(hook.owner)[hook.name] for hook in find_hooks()]


@pytest.fixture
def parsed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the functions whose source is read, from a fresh memory on."""
    monkeypatch.setattr(torchlib_registry, "_remembered", {})
    names: list[str] = []
    read = inspect.getsource

    def note(function: Any) -> str:
        names.append(getattr(function, "__name__", ""))
        return read(function)

    monkeypatch.setattr(inspect, "getsource", note)
    return names


def test_the_private_names_are_there() -> None:
    try:
        hooks = find_hooks()
    except (ImportError, AttributeError, TypeError) as error:
        pytest.fail(f"{RENAMED} ({error})")
    assert [hook.name for hook in hooks] == ["function_ir", "op_signature_from_function"]


@pytest.mark.slow("two exports")
def test_a_second_export_parses_nothing(parsed: list[str], tmp_path: Path) -> None:
    first = export(tmp_path / "first.onnx")
    assert len(parsed) > 300, RENAMED
    parsed.clear()
    assert export(tmp_path / "second.onnx") == first
    assert not parsed, RENAMED


@pytest.mark.full
def test_without_the_hooks_the_file_is_the_same(
    parsed: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    expected = export(tmp_path / "hooked.onnx")

    def renamed() -> Any:
        raise AttributeError("no attribute 'op_signature_from_function'")

    monkeypatch.setattr(torchlib_registry, "find_hooks", renamed)
    parsed.clear()
    with caplog.at_level(logging.DEBUG, torchlib_registry.__name__):
        assert export(tmp_path / "plain.onnx") == expected
    assert len(parsed) > 300
    assert "parses torchlib for this export again" in caplog.text
    assert "op_signature_from_function" in caplog.text


def test_torch_is_restored(tmp_path: Path) -> None:
    before = in_place()
    with parse_once():
        assert in_place() != before
        with parse_once():
            pass
        assert in_place() != before
    assert in_place() == before
    with pytest.raises(KeyError), parse_once():
        raise KeyError
    assert in_place() == before
    export(tmp_path / "net.onnx")
    assert in_place() == before


def test_the_last_thread_restores() -> None:
    before, inside, leave = in_place(), threading.Event(), threading.Event()

    def other() -> None:
        with parse_once():
            inside.set()
            leave.wait(10)

    thread = threading.Thread(target=other)
    with parse_once():
        thread.start()
        assert inside.wait(10)
    assert in_place() != before
    leave.set()
    thread.join()
    assert in_place() == before


def test_our_lowerings_do_not_reach_a_users_export(tmp_path: Path) -> None:
    from torch.onnx._internal.exporter._registration import ONNXRegistry

    export(tmp_path / "net.onnx")
    with parse_once():
        registry = ONNXRegistry.from_torchlib()
    assert not [meta for metas in registry.functions.values() for meta in metas if meta.is_custom]
    assert not registry.is_registered(torch.ops.codeq.dequantize.default)
