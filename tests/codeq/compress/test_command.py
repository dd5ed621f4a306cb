"""The command: trained weights and inputs in, a checkpoint out that exports."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch

import codeq
import models
from codeq.compress import names
from codeq.compress.network import METHODS

pytestmark = pytest.mark.slow("a network is traced and exported")


@pytest.fixture
def trained(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    torch.save(models.create("autoencoder", in_features=16).state_dict(), tmp_path / "weights.pt")
    np.save(tmp_path / "inputs.npy", np.random.default_rng(0).standard_normal((40, 16)).astype(np.float32))
    return tmp_path


def test_a_checkpoint_that_exports(trained: Path, run_command: Any) -> None:
    words = ("codeq.compress", "--model", "autoencoder", "--model-args", '{"in_features": 16}', "--init", "weights.pt")
    words += ("--calibration", "inputs.npy", "--bits", 4, "--json", "report.json")
    done = run_command(*words, cwd=trained)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "ckpt.pt written"
    assert "outputs keep" in done.stdout
    values = json.loads((trained / "report.json").read_text())
    assert values["format_version"] == 1
    assert (values["method"], values["inputs"], values["held_inputs"]) == ("obq", 35, 5)
    loaded = codeq.load(trained / "ckpt.pt")
    assert loaded.held_inputs is not None
    assert len(loaded.held_inputs) == 5
    bits = [encoding.bit_width for encoding in codeq.encode(loaded.model).values()]
    assert bits == [weight["bits"] for weight in values["weights"]]
    done = run_command("export.onnx", "ckpt.pt", "--activations", "int8", cwd=trained)
    assert done.returncode == 0, done.stderr
    again = run_command(*words, cwd=trained)
    assert (again.returncode, again.stderr.count("\n")) == (2, 1)


def test_a_budget(trained: Path, run_command: Any) -> None:
    words = ("codeq.compress", "--model", "autoencoder", "--model-args", '{"in_features": 16}', "--init", "weights.pt")
    words += ("--calibration", "inputs.npy", "--json", "report.json", "--force", "--size", "60kB")
    done = run_command(*words, cwd=trained)
    assert done.returncode == 0, done.stderr
    assert "budget 60.0 kB: " in done.stdout
    values = json.loads((trained / "report.json").read_text())
    assert values["budget"]["met"]
    assert values["budget"]["reached"] <= 60_000 * 1.05
    assert len(values["frontier"]) > 3


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--model", "nothing"], "nothing"),
        (["--model", "autoencoder", "--model-args", '{"wrong": 1}'], "--model autoencoder"),
        (["--model", "autoencoder", "--calibration", "none.npy"], "none.npy: no such file or folder"),
        (["--model", "autoencoder", "--init", "none.pt"], "none.pt"),
        (["--model", "autoencoder", "--bits", "9"], "--bits"),
        (["--model", "autoencoder"], "16"),
        (["--model", "autoencoder", "--model-args", '{"in_features": 16}', "--size", "1kB"], "1.0 kB is out of reach"),
        (["--model", "autoencoder", "--size", "1kB", "--bops", "0.1"], "not allowed with"),
    ],
)
def test_bad_input_is_one_line(words: list[str], message: str, trained: Path, run_command: Any) -> None:
    given = words if "--calibration" in words else [*words, "--calibration", "inputs.npy"]
    done = run_command("codeq.compress", *given, cwd=trained)
    assert done.returncode == 2, done.stderr
    assert message in done.stderr
    assert done.stderr.count("\n") == 1
    assert not (trained / "ckpt.pt").exists()


TWO_INPUTS = """
import torch
from torch import nn


class ImageAndToken(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.embedding, self.fc = nn.Conv2d(1, 4, 3), nn.Embedding(10, 8), nn.Linear(12, 5)

    def forward(self, image, token, labels=None):
        seen = self.conv(image).relu().mean((2, 3))
        return self.fc(torch.cat([seen, self.embedding(token)], 1))


def build():
    torch.manual_seed(0)
    return ImageAndToken()


def pairs():
    for seed in range(4):
        generator = torch.Generator().manual_seed(seed)
        yield torch.randn(8, 1, 6, 6, generator=generator), torch.randint(10, (8,), generator=generator)


def mappings():
    for image, token in pairs():
        yield {"token": token, "labels": token, "image": image}
"""


@pytest.fixture
def two_inputs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user's folder: a network of an image and a token, functions that give batches, and a file of them."""
    (tmp_path / "two_inputs_of_ours.py").write_text(TWO_INPUTS)
    monkeypatch.syspath_prepend(tmp_path)
    rng = np.random.default_rng(0)
    images, tokens = rng.standard_normal((32, 1, 6, 6)).astype(np.float32), rng.integers(0, 10, 32)
    np.savez(tmp_path / "inputs.npz", token=tokens, labels=tokens, image=images)
    return tmp_path


NETWORK = ("--model", "two_inputs_of_ours:build")


@pytest.mark.parametrize(
    ("source", "activations"),
    [
        ("inputs.npz", "int8"),
        ("two_inputs_of_ours:pairs", "float32"),
        pytest.param("two_inputs_of_ours:mappings", "int8", marks=pytest.mark.full),
    ],
)
def test_two_inputs_of_different_dtypes(source: str, activations: str, two_inputs: Path, run_command: Any) -> None:
    done = run_command("codeq.compress", *NETWORK, "--calibration", source, "--bits", 4, cwd=two_inputs)
    assert done.returncode == 0, done.stderr
    from two_inputs_of_ours import build  # type: ignore[import-not-found]

    loaded = codeq.load(two_inputs / "ckpt.pt", build)
    assert loaded.input_shape == {"image": (1, 6, 6), "token": ()}
    assert isinstance(loaded.calibration_inputs, dict)
    assert isinstance(loaded.held_inputs, dict)
    assert [str(tensor.dtype) for tensor in loaded.held_inputs.values()] == ["torch.float32", "torch.int64"]
    assert {len(tensor) for tensor in loaded.calibration_inputs.values()} == {28}
    words = ("--activations", activations, "--calibration", source) if activations == "int8" else ()
    done = run_command("export.onnx", "ckpt.pt", *NETWORK, "-o", "net.onnx", *words, cwd=two_inputs)
    assert done.returncode == 0, done.stderr
    done = run_command("runtime_tests.parity", "ckpt.pt", "net.onnx", *NETWORK, cwd=two_inputs)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "parity    4 inputs, onnxruntime" in done.stdout
    words = ("ckpt.pt", "net.onnx", *NETWORK, "--runtimes", "onnxruntime")
    done = run_command("runtime_tests.runtimes", *words, cwd=two_inputs)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "runtimes  4 inputs, batches of 1 and 20: ok" in done.stdout
    # And by a session that is not ours.
    session = onnxruntime.InferenceSession(two_inputs / "net.onnx", providers=["CPUExecutionProvider"])
    assert [(item.name, item.type) for item in session.get_inputs()] == [
        ("image", "tensor(float)"),
        ("token", "tensor(int64)"),
    ]
    (found,) = session.run(None, {name: tensor.numpy() for name, tensor in loaded.held_inputs.items()})
    with torch.no_grad():
        expected = loaded.model(**loaded.held_inputs).numpy()
    bound = 1e-5 if activations == "float32" else 0.05
    assert np.abs(found - expected).max() <= bound * np.abs(expected).max()


def test_several_inputs_that_do_not_fit_are_one_line(two_inputs: Path, run_command: Any) -> None:
    images, tokens = np.zeros((4, 1, 6, 6), np.float32), np.zeros(4, np.int64)
    np.savez(two_inputs / "wrong.npz", picture=images, token=tokens)
    np.savez(two_inputs / "missing.npz", token=tokens)
    np.savez(two_inputs / "differ.npz", image=images, token=tokens[:3])
    np.save(two_inputs / "one.npy", images)
    for source, message in [
        ("wrong.npz", "wrong.npz: gives 'picture', which ImageAndToken does not take, expected image, token, labels"),
        ("missing.npz", "missing.npz: lacks image, which ImageAndToken needs"),
        ("differ.npz", "differ.npz: 'token' is int64 (3,), expected 4 along the first axis, as the first"),
        ("one.npy", "one.npy: lacks token, which ImageAndToken needs; give an .npz file of arrays image, token, or"),
    ]:
        done = run_command("codeq.compress", *NETWORK, "--calibration", source, cwd=two_inputs)
        assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
        assert message in done.stderr
        assert not (two_inputs / "ckpt.pt").exists()


def test_commands_of_one_input_refuse_several(two_inputs: Path, run_command: Any) -> None:
    done = run_command("codeq.compress", *NETWORK, "--calibration", "inputs.npz", cwd=two_inputs)
    assert done.returncode == 0, done.stderr
    done = run_command("export.onnx", "ckpt.pt", *NETWORK, cwd=two_inputs)
    assert done.returncode == 0, done.stderr
    for words, message in [
        (("runtime_tests.parity", "ckpt.pt", "ckpt.onnx", "--data", "digits"), "takes the inputs image, token; --data"),
        (("runtime_tests.runtimes", "ckpt.pt", "ckpt.onnx", "--data", "digits"), "takes the inputs image, token; --da"),
        (("codeq.adopt", "--input-shape", "1,6,6", "-o", "a.pt"), "takes image, token, and codeq.adopt knows no input"),
    ]:
        done = run_command(*words, *NETWORK, cwd=two_inputs)
        assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
        assert message in done.stderr


BERT = """
import transformers


def build():
    config = transformers.BertConfig(
        vocab_size=30,
        max_position_embeddings=8,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
    )
    return transformers.BertModel(config)
"""


@pytest.mark.full
@pytest.mark.parametrize("activations", ["float32", "int8"])
def test_a_bert(activations: str, tmp_path: Path, run_command: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    litert = pytest.importorskip("ai_edge_litert.interpreter", reason="LiteRT is an extra: pip install '.[tflite]'")
    (tmp_path / "bert_of_ours.py").write_text(BERT)
    monkeypatch.syspath_prepend(tmp_path)
    from bert_of_ours import build  # type: ignore[import-not-found]

    torch.save(build().state_dict(), tmp_path / "weights.pt")
    rng = np.random.default_rng(0)
    ids, mask = rng.integers(0, 30, (48, 8)), np.ones((48, 8), np.int64)
    mask[::2, 5:] = 0
    types = np.broadcast_to((np.arange(8) > 3).astype(np.int64), (48, 8))
    np.savez(tmp_path / "tokens.npz", input_ids=ids, attention_mask=mask, token_type_ids=types)
    model = ("--model", "bert_of_ours:build")
    words = ("--init", "weights.pt", "--calibration", "tokens.npz", "--bits", 4)
    done = run_command("codeq.compress", *model, *words, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    for kind in ("onnx", "tflite"):
        words = ("ckpt.pt", *model, "-o", f"net.{kind}", "--activations", activations)
        done = run_command(f"export.{kind}", *words, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        done = run_command("runtime_tests.parity", "ckpt.pt", f"net.{kind}", *model, cwd=tmp_path)
        assert done.returncode == 0, done.stdout + done.stderr
    done = run_command("runtime_tests.runtimes", "ckpt.pt", "net.onnx", "net.tflite", *model, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "runtimes  6 inputs" in done.stdout

    loaded = codeq.load(tmp_path / "ckpt.pt", build)
    assert isinstance(loaded.held_inputs, dict)
    assert list(loaded.held_inputs) == ["input_ids", "attention_mask", "token_type_ids"]
    fed = {name: tensor.numpy() for name, tensor in loaded.held_inputs.items()}
    with torch.no_grad():
        expected = loaded.model(**loaded.held_inputs).last_hidden_state.numpy()
    bound = (1e-5 if activations == "float32" else 0.05) * np.abs(expected).max()
    session = onnxruntime.InferenceSession(tmp_path / "net.onnx", providers=["CPUExecutionProvider"])
    assert np.abs(session.run(["last_hidden_state"], fed)[0] - expected).max() <= bound
    interpreter = litert.Interpreter(model_path=str(tmp_path / "net.tflite"))
    runner = interpreter.get_signature_runner()
    rows = [runner(**{name: array[row : row + 1] for name, array in fed.items()}) for row in range(6)]
    found = np.concatenate([row["last_hidden_state"] for row in rows])
    assert np.abs(found - expected).max() <= bound


def test_the_names_are_those_of_the_methods() -> None:
    assert tuple(METHODS) == names.METHODS
