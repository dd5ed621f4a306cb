"""Networks that are called by name, or answer with more than a tensor: what a file's inputs and outputs are called."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import codeq
from export import ExportError, check_parity, export_onnx, load_session
from export.backend import get_backend
from export.onnx.sessions import load_model, read_metadata
from export.program.prepare import rebuild_program
from export.publish import check_stored

ACTIVATIONS: Any = pytest.mark.parametrize("activations", ["float32", "int8"])


@dataclass
class Answer:
    logits: Tensor
    states: tuple[Tensor, ...]
    best: Tensor
    loss: Tensor | None = None


class Encoder(nn.Module):
    """Token ids and a mask, as text encoders take them."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.project, self.head = nn.Embedding(20, 16), nn.Linear(16, 16), nn.Linear(16, 3)

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None, labels: Tensor | None = None) -> Answer:
        hidden = self.project(self.embedding(input_ids))
        if attention_mask is not None:
            hidden = hidden * attention_mask.unsqueeze(-1)
        logits = self.head(hidden.mean(1))
        return Answer(logits, (hidden, hidden.relu()), logits.argmax(1))


class Sum(nn.Module):
    """Its answer bears the names of an input and of a weight."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(4, 4)
        self.register_buffer("right", torch.full((4,), 0.5))
        self.register_buffer("bias", torch.ones(4))

    def forward(self, left: Tensor, right: Tensor, unused: Tensor | None = None) -> dict[str, Tensor]:
        y = self.fc(left) - right * self.get_buffer("right")
        return {"left": y, "again": y, "right": right, "fc.weight": y + 1, "bias": y * self.get_buffer("bias")}


def attached(model: nn.Module) -> nn.Module:
    codeq.attach(model)
    return model.eval()


def names(path: Path) -> tuple[list[str], list[str]]:
    session = load_session(path)
    return [item.name for item in session.get_inputs()], [item.name for item in session.get_outputs()]


@ACTIVATIONS
def test_a_file_takes_and_gives_what_the_network_names(activations: Any, tmp_path: Path) -> None:
    model, path = attached(Encoder()), tmp_path / "net.onnx"
    ids = torch.randint(20, (6, 5))
    mask = (torch.rand(6, 5) > 0.3).long()
    inputs = {"attention_mask": mask, "input_ids": ids, "labels": None}
    report = export_onnx(model, inputs, path, activations=activations, calibration=inputs, check_inputs=inputs)
    assert report.verdict.ok
    assert names(path) == (["input_ids", "attention_mask"], ["logits", "states_0", "states_1", "best"])
    expected = model(ids[:2], mask[:2])
    found = load_session(path).run(None, {"input_ids": ids[:2].numpy(), "attention_mask": mask[:2].numpy()})
    assert found[3].dtype == "int64"
    assert found[0].shape == expected.logits.shape
    # By name, in any order, or in the order of the arguments.
    for given in (inputs, (ids, mask)):
        assert check_parity(path, model, given).ok  # type: ignore[arg-type]
    if activations == "int8":
        grids = read_metadata(load_model(path), path).activations
        assert grids is not None
        program = rebuild_program(model, inputs, grids)
        stored = get_backend("onnx").read(path)
        assert check_stored(get_backend("onnx"), stored, model, inputs, program).ok
    with pytest.raises(ExportError, match="takes input_ids, attention_mask, found input_ids, labels"):
        check_parity(path, model, {"input_ids": ids, "labels": mask})


@pytest.mark.slow("two exports")
@ACTIVATIONS
@pytest.mark.full
def test_one_input_by_position_is_input_and_by_name_has_its_name(activations: Any, tmp_path: Path) -> None:
    model = attached(Encoder())
    ids = torch.randint(20, (6, 5), dtype=torch.int32)
    export_onnx(model, ids, tmp_path / "position.onnx", activations=activations)
    export_onnx(model, {"input_ids": ids}, tmp_path / "name.onnx", activations=activations)
    assert names(tmp_path / "position.onnx")[0] == ["input"]
    assert names(tmp_path / "name.onnx")[0] == ["input_ids"]


def test_names_that_are_taken(tmp_path: Path) -> None:
    model, path = attached(Sum()), tmp_path / "net.onnx"
    left, right = torch.randn(3, 4), torch.randn(3, 4)
    report = export_onnx(model, (left, right, right), path)
    assert report.verdict.ok
    inputs, outputs = names(path)
    assert inputs == ["left", "right", "unused"]
    assert outputs == ["left_output", "again", "right_output", "fc.weight_output", "bias_output"]


def test_one_tensor_given_twice_is_two_inputs(tmp_path: Path) -> None:
    # torch.export would make one input of them, and the check on the same tensors could not tell.
    model, path, x = attached(Sum()), tmp_path / "net.onnx", torch.randn(3, 4)
    export_onnx(model, (x, x), path)
    assert check_parity(path, model, (x, torch.randn(3, 4))).ok


class Several(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(4, 4)

    def forward(self, *tensors: Tensor) -> list[Tensor]:
        return [self.fc(tensor) for tensor in tensors]


@ACTIVATIONS
def test_arguments_without_names_are_numbered(activations: Any, tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    x = torch.randn(3, 4)
    assert export_onnx(attached(Several()), (x, x[:, :4] + 1), path, activations=activations).verdict.ok
    assert names(path) == (["tensors_0", "tensors_1"], ["output_0", "output_1"])


@pytest.mark.parametrize(
    ("option", "given", "message"),
    [
        (
            "check_inputs",
            {"input_ids": torch.zeros(2, 5, dtype=torch.int64)},
            "check_inputs gives input_ids, expected in",
        ),
        (
            "calibration",
            torch.zeros(2, 5, dtype=torch.int64),
            "calibration gives 1 by position, expected input_ids, atte",
        ),
    ],
)
def test_inputs_in_another_form_than_the_example(option: str, given: Any, message: str, tmp_path: Path) -> None:
    ids = torch.zeros(2, 5, dtype=torch.int64)
    example = {"input_ids": ids, "attention_mask": ids + 1}
    with pytest.raises(ExportError, match=message):
        export_onnx(attached(Encoder()), example, tmp_path / "net.onnx", activations="int8", **{option: given})
    x = torch.zeros(2, 4)
    with pytest.raises(ExportError, match="calibration gives 2 by position, expected 1 by position, as example_inputs"):
        export_onnx(attached(nn.Linear(4, 2)), (x,), tmp_path / "net.onnx", activations="int8", calibration=(x, x))
    with pytest.raises(ExportError, match=r"Encoder names no argument 'input', expected input_ids, attention_mask"):
        export_onnx(attached(Encoder()), {"input": ids}, tmp_path / "net.onnx")
    assert not list(tmp_path.iterdir())
