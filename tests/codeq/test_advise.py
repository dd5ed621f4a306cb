"""The command: trained weights in, advice out, and bad input in one line."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

import models
from codeq import advise
from codeq.errors import CodeqError


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    torch.manual_seed(3)
    network = models.create("autoencoder", in_features=64)
    path = tmp_path / "weights.pt"
    torch.save(network.state_dict(), path)
    return path


def run(*words: Any) -> int:
    return advise.main(["--model", "autoencoder", "--model-args", '{"in_features": 64}', *map(str, words)])


def test_the_weights_of_a_file(weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = tmp_path / "report.json"
    assert run("--init", weights, "--json", report, "--exclude", "layers.0.0") == 0
    printed, values = " ".join(capsys.readouterr().out.split()), json.loads(report.read_text())
    assert f"advice: {values['sentence']}" in printed
    first = values["weights"][0]
    assert first["name"] == "layers.1.0.weight"
    weight = torch.load(weights)["layers.1.0.weight"].double()
    deviations = weight - weight.mean()
    assert first["kurtosis"] == pytest.approx(float(deviations.pow(4).mean() / deviations.square().mean() ** 2))
    assert [row["bits"] for row in first["at"]] == [8, 4, 3, 2]
    with pytest.raises(CodeqError, match="exists"):
        run("--init", weights, "--json", report)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--init", "none.pt"], "none.pt"),
        (["--exclude", "nothing"], "'nothing' matches nothing"),
    ],
)
def test_bad_input(words: list[str], message: str) -> None:
    with pytest.raises(CodeqError, match=message):
        run(*words)
