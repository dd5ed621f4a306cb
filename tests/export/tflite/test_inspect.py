"""`python -m export.inspect net.tflite`: the bytes of every weight, hashes held, and one line for a damaged file."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from torch import nn

pytest.importorskip("ai_edge_litert", reason="LiteRT is an extra: pip install '.[tflite]'")

from export.tflite.file.flatbuffer import align_buffers, pack_model, read, tensors_by_name
from export.tflite.inspect import inspect_file

LAYERS = {"conv": nn.Conv2d(16, 24, 3), "fc": nn.Linear(24, 4)}


def forward(m: Any, x: Any) -> Any:
    return m.fc(m.conv(x).mean((2, 3)))


@pytest.mark.parametrize(
    ("options", "storages"),
    [
        ({"sparse": "off"}, ["int8", "int8"]),
        ({"zeros": 0.9}, ["CSR", "int8"]),
        ({"int4": True, "grid_limit": 7}, ["int4", "int4"]),
    ],
    ids=["dense", "sparse", "int4"],
)
def test_it_says_what_the_report_said(export: Any, options: dict[str, Any], storages: list[str]) -> None:
    report = export(forward, (16, 5, 5), **LAYERS, **options)
    found = inspect_file(report.path)
    assert [weight.storage for weight in found.weights] == storages
    assert found.size_bytes == report.size_bytes
    assert found.operators == report.details.operators
    assert found.activations is None
    for ours, theirs in zip(found.weights, report.weights, strict=True):
        assert (ours.name, ours.shape, ours.storage) == (theirs.name, theirs.shape, theirs.storage)
        assert ours.sparsity == pytest.approx(theirs.sparsity)
        assert ours.entropy_bytes == pytest.approx(theirs.entropy_bytes)
        assert ours.float32_bytes == theirs.float32_bytes


def test_the_command(export: Any, run_command: Callable[..., Any], tmp_path: Path) -> None:
    path = export(forward, (16, 5, 5), "int8", **LAYERS).path
    done = run_command("export.inspect", path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[-1] == "codes     of 2 weights read, hashes as written: ok"
    values = json.loads(run_command("export.inspect", path, "--json", "-").stdout)
    assert values["size_bytes"] == path.stat().st_size
    assert values["codes"] == "verified"

    data = path.read_bytes()
    model = read(data)
    _, tensor = tensors_by_name(model)["conv.weight_quantized"]
    buffer = model.buffers[tensor.buffer]
    buffer.data = buffer.data.copy()
    buffer.data[5] ^= 1
    model.buffers = align_buffers(model)
    damaged = {
        "code": (pack_model(model, len(data)), "the codes of conv.weight are not those it was written with"),
        "half": (data[: len(data) // 2], "is damaged"),
        "noise": (data[:8] + b"\xff" * 64 + data[72:], "is damaged"),
        "text": (b"hello", "is not a .tflite file"),
        "layout": (data.replace(b'"channels_last_io"', b'"channels_list_io"'), "metadata is damaged"),
    }
    for name, (content, message) in damaged.items():
        target = tmp_path / f"{name}.tflite"
        target.write_bytes(content)
        done = run_command("export.inspect", target)
        assert (done.returncode, done.stdout) == (2, ""), name
        assert message in done.stderr, (name, done.stderr)
        assert len(done.stderr.strip().splitlines()) == 1, done.stderr
