"""The command: what another tool saved in, a checkpoint out that exports."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import codeq
import models
from tests.codeq.adopt.others import Published, publish, qconfig, train_with_ao

pytestmark = pytest.mark.slow("commands, of which some export")
ARGUMENTS = {"in_features": 16}
MODEL = ("--model", "autoencoder", "--model-args", json.dumps(ARGUMENTS))
FACTORIES = """
from tests.codeq.adopt.others import prepare_with_ao, qconfig


def prepared():
    return prepare_with_ao(qconfig(per_channel=True))
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    torch.manual_seed(0)
    plain = models.create("autoencoder", **ARGUMENTS).eval()
    torch.save(plain.state_dict(), tmp_path / "float.pt")
    torch.save(publish(plain, Published(4, 0.9)).state_dict(), tmp_path / "published.pt")
    (tmp_path / "prepared_networks.py").write_text(FACTORIES)
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


@pytest.mark.parametrize("snap", [False, True], ids=["exact", "snapped"])
def test_a_published_checkpoint_exports(snap: bool, folder: Path, run_command: Any) -> None:
    words = ("codeq.adopt", *MODEL, "--init", "published.pt", "--json", "a.json", *(["--snap"] if snap else []))
    done = run_command(*words, cwd=folder)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "ckpt.pt written"
    values = json.loads((folder / "a.json").read_text())
    assert values["format_version"] == 1
    assert (values["source"], values["exact"]) == ("published", not snap)
    loaded = codeq.load(folder / "ckpt.pt")
    assert {weight["grid"] for weight in values["weights"]} == {"integer" if snap else "paper"}
    assert [encoding.bit_width for encoding in codeq.encode(loaded.model).values()] == [4] * len(values["weights"])
    done = run_command("export.onnx", "ckpt.pt", cwd=folder)
    assert done.returncode == 0, done.stderr
    again = run_command(*words, cwd=folder)
    assert (again.returncode, again.stderr.count("\n")) == (2, 1)


def test_a_network_of_torch_ao_exports_with_its_scales(folder: Path, run_command: Any) -> None:
    torch.save(train_with_ao(qconfig(per_channel=True)).state_dict(), folder / "qat.pt")
    factory = ("--model", "prepared_networks:prepared")
    words = ("codeq.adopt", *factory, "--init", "qat.pt", "--input-shape", "3,8,8")
    done = run_command(*words, cwd=folder)
    assert done.returncode == 0, done.stderr
    assert "scales    of 4 activations taken over" in done.stdout
    done = run_command("export.onnx", "ckpt.pt", *factory, "--json", "a.json", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert json.loads((folder / "a.json").read_text())["activations"]["ranges"] == "learned in training"
    assert "the checkpoint holds no inputs: random normal ones were used" in done.stderr
    np.save(folder / "inputs.npy", np.random.default_rng(0).random((40, 3, 8, 8), np.float32))
    done = run_command("export.onnx", "ckpt.pt", *factory, "--calibration", "inputs.npy", "-o", "b.onnx", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert "the checkpoint holds no inputs: those of --calibration were used" in done.stderr


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([*MODEL, "--init", "float.pt"], "lies on no grid of 8 bits: channel "),
        ([*MODEL, "--init", "none.pt"], "none.pt: no such file"),
        ([*MODEL, "--init", "published.pt", "--exclude", "x"], "--exclude: what published.pt quantizes is"),
        (["--model", "nothing"], "--model nothing"),
        (["--model", "prepared_networks:nothing"], "prepared_networks"),
        (["--model", "prepared_networks:prepared"], "does not say its input_shape; give --input-shape"),
        ([*MODEL, "--input-shape", "3,x"], "expected sizes with commas between them, e.g. 3,224,224, found '3,x'"),
        ([*MODEL, "--init", "published.pt", "--input-shape", "2,9,9"], "--input-shape 2,9,9: "),
        (["--model", "autoencoder", "--init", "published.pt"], "published.pt: shapes differ from those of"),
    ],
    ids=[
        "float",
        "no file",
        "exclude",
        "no network",
        "no factory",
        "no shape",
        "shape",
        "wrong shape",
        "other network",
    ],
)
def test_bad_input_is_one_line(words: list[str], message: str, folder: Path, run_command: Any) -> None:
    done = run_command("codeq.adopt", *words, cwd=folder)
    assert done.returncode == 2, done.stderr
    assert message in done.stderr
    assert done.stderr.count("\n") == 1
    assert not (folder / "ckpt.pt").exists()
