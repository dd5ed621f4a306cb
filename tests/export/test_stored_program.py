"""A file's program is made again from its network and its metadata."""

from pathlib import Path

import pytest
import torch

import codeq
from export import export_onnx
from export.backend import backend_of
from export.stored_program import stored_program


@pytest.mark.parametrize("activations", ["float32", "int8"])
def test_a_program_is_made_again(activations: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Conv2d(1, 4, 3), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(64, 3))
    x = torch.randn(6, 1, 6, 6)
    codeq.attach(model, 4)
    codeq.freeze(model)
    path = tmp_path / "net.onnx"
    options = {"calibration": x} if activations == "int8" else {}
    export_onnx(model.eval(), (x[:2],), path, activations=activations, check_inputs=(x,), **options)  # type: ignore[arg-type]
    stored = backend_of(path).read(path)
    program = stored_program(stored, model, x)
    if activations == "float32":
        assert program is None
        return
    assert program is not None
    assert stored.metadata.activations
    assert program.activations is not None
    assert dict(program.activations.encodings) == dict(stored.metadata.activations)
