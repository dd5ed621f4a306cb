"""The form that lowerings expect: once made it stays, and quantizing has made most of it before."""

from typing import Any

import pytest
import torch.nn.functional as F
from torch import Tensor, nn

from export.tflite.passes import bring_into_form as module
from export.tflite.passes.bring_into_form import bring_into_form


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.one = nn.Conv2d(3, 4, 7, stride=2, padding=3)
        self.two = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = F.silu(self.one(x))
        rows = F.relu(self.two(x.permute(0, 2, 3, 1)))
        return rows.mean((1, 2)) + F.relu(rows).mean((1, 2))


def targets(program: Any) -> list[str]:
    return [str(node.target) for node in program.exported.graph.nodes]


@pytest.mark.parametrize("activations", ["float32", "int8"])
def test_a_second_time_changes_nothing(program: Any, activations: str) -> None:
    made = program(Net(), (3, 12, 12), activations)
    bring_into_form(made)
    before = str(made.exported.graph)
    bring_into_form(made)
    assert str(made.exported.graph) == before
    assert not any(".silu." in target for target in targets(made))


def test_what_was_quantized_is_canonical_already(program: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(exported: object) -> None:
        raise AssertionError("canonicalized twice")

    made = program(Net(), (3, 12, 12), "int8")
    monkeypatch.setattr(module, "canonicalize", fail)
    bring_into_form(made)
    with pytest.raises(AssertionError, match="twice"):
        bring_into_form(program(Net(), (3, 12, 12)))
