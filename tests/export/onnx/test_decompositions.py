"""A graph that holds nothing to take apart is not traced anew, and stays as it was; another one is taken apart."""

from collections import Counter
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.export import ExportedProgram

from export.onnx.decompositions import decompose_if_needed
from export.onnx.lower import lower_program
from export.options import Quantization
from export.program.prepare import prepare_program


class Spread(nn.Module):
    """Ends in spreads, for which ONNX has no operator."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(3, 4, 3)

    def forward(self, x: Tensor) -> Tensor:
        y = self.layer(x)
        return torch.std_mean(y, dim=1)[0]


@pytest.fixture
def decomposed(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    calls: Counter[str] = Counter()
    original = ExportedProgram.run_decompositions

    def counted(self: ExportedProgram, *arguments: Any, **options: Any) -> ExportedProgram:
        calls["decomposed"] += 1
        return original(self, *arguments, **options)

    monkeypatch.setattr(ExportedProgram, "run_decompositions", counted)
    return calls


@pytest.mark.parametrize(
    ("model", "times"),
    [(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.LazyLinear(2)), 0), (Spread(), 1)],
)
def test_what_needs_it_is_taken_apart(model: nn.Module, times: int, decomposed: Counter[str]) -> None:
    inputs = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    model(inputs)
    program = prepare_program(model, inputs, Quantization()).program
    decomposed.clear()
    before, expected = str(program.exported.graph), program.run(inputs)
    lower_program(program)
    assert decomposed["decomposed"] == times
    assert str(program.exported.graph) == before
    assert all(map(torch.equal, program.run(inputs), expected))
    assert "run_decompositions" not in vars(program.exported)


@pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning")
def test_a_copy_is_given(decomposed: Counter[str]) -> None:
    exported = torch.export.export(nn.Linear(2, 2), (torch.ones(1, 2),))
    with decompose_if_needed(exported):
        fresh = exported.run_decompositions({})
        assert decomposed["decomposed"] == 0
        assert fresh.graph is not exported.graph
        assert [node.target for node in fresh.graph.nodes][1:] == [node.target for node in exported.graph.nodes][1:]
        exported.run_decompositions()  # by torch's own table
        assert decomposed["decomposed"] == 1
    exported.run_decompositions({})
    assert decomposed["decomposed"] == 2
