"""The command: trained weights and inputs in, a checkpoint out that exports."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import codeq
import models
from codeq.compress import names
from codeq.compress.network import METHODS
from tests.stock_session import stock_session

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
    done = run_command("export.onnx", "ckpt.pt", "--activations", "int8", "--json", "export.json", cwd=trained)
    assert done.returncode == 0, done.stderr
    # Of the float network, which the export has never seen.
    assert f"next to float weights outputs keep {values['output_decibels'][0]:.1f} dB" in " ".join(done.stdout.split())
    signal = json.loads((trained / "export.json").read_text())["weight_signal"]
    assert signal["results"] == {weight["name"]: weight["decibels"] for weight in values["weights"]}
    again = run_command(*words, cwd=trained)
    assert (again.returncode, again.stderr.count("\n")) == (2, 1)


def test_distillation_and_stored_scales(trained: Path, run_command: Any) -> None:
    words = ("codeq.compress", "--model", "autoencoder", "--model-args", '{"in_features": 16}', "--init", "weights.pt")
    words += ("--calibration", "inputs.npy", "--bits", 3, "--activations", "int8", "--distill", 2)
    done = run_command(*words, "--distill-inputs", "inputs.npy", "--json", "report.json", cwd=trained)
    assert done.returncode == 0, done.stderr
    assert "distilled from " in done.stdout
    assert json.loads((trained / "report.json").read_text())["distilled"]["epochs"] == 2
    assert codeq.load(trained / "ckpt.pt").activations
    done = run_command("export.onnx", "ckpt.pt", cwd=trained)  # int8, as its scales are stored
    assert done.returncode == 0, done.stderr
    assert "QGemm" in done.stdout or "uint8" in done.stdout or "int8" in done.stdout


def test_a_budget(trained: Path, run_command: Any) -> None:
    words = ("codeq.compress", "--model", "autoencoder", "--model-args", '{"in_features": 16}', "--init", "weights.pt")
    words += ("--calibration", "inputs.npy", "--json", "report.json", "--force", "--size", "60kB")
    words += ("--plot", "frontier.svg")
    done = run_command(*words, cwd=trained)
    assert done.returncode == 0, done.stderr
    assert "budget 60.0 kB: " in done.stdout
    values = json.loads((trained / "report.json").read_text())
    assert values["budget"]["met"]
    assert values["budget"]["reached"] <= 60_000 * 1.05
    assert len(values["frontier"]) > 3
    assert "</svg>" in (trained / "frontier.svg").read_text()
    assert values["advice"]["weights"][0]["at"][0]["bits"] == 8
    printed = " ".join(done.stdout.split()).partition("advice: ")[2]
    assert values["advice"]["sentence"].rpartition("; ")[2] in printed
    kept = {weight["name"].removesuffix(".weight") for weight in values["weights"] if weight["bits"] == 8}
    assert kept.isdisjoint(re.findall(r"\S+", printed.partition(" at 8 bits")[0].replace(",", "")))


def test_equalised(trained: Path, run_command: Any) -> None:
    words = ("codeq.compress", "--model", "autoencoder", "--model-args", '{"in_features": 16}', "--init", "weights.pt")
    words += ("--calibration", "inputs.npy", "--json", "report.json", "--equalise", "activations", "--absorb")
    done = run_command(*words, cwd=trained)
    assert done.returncode == 0, done.stderr
    assert "pairs scaled by activations" in done.stdout
    values = json.loads((trained / "report.json").read_text())["equalisation"]
    assert (values["by"], values["pairs"], values["output_decibels"]) == ("activations", 9, [200.0])


BATCHES = """
import torch
from torch import nn

def build():
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4))

def images():
    return torch.rand(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))

def nothing():
    return []

def nan():
    yield images()
    yield images() / torch.tensor([1.0, 1.0, 0.0, 1.0]).reshape(4, 1, 1, 1)

def shapes():
    yield images()
    yield images()[:, :, :7]

def dtypes():
    yield images()
    yield images().long()

def kinds():
    yield images()
    yield {"input": images()}

def grey():
    return images()[:, :1]

def raises():
    raise KeyError("train")
"""

CODER = ["--model", "autoencoder", "--model-args", '{"in_features": 16}', "--calibration", "inputs.npy"]
CONVOLUTION = ["--model", "batches:build"]

BAD_INPUT: dict[str, tuple[list[str], str]] = {
    "model": (["--model", "nothing", "--calibration", "inputs.npy"], "--model nothing: unknown model 'nothing'"),
    "model's arguments": (["--model", "autoencoder", "--model-args", '{"wrong": 1}'], "--model autoencoder"),
    "model's size": (
        ["--model", "autoencoder"],
        "inputs.npy: Autoencoder cannot be called with calibration inputs 35 to 39, float",
    ),
    "no module": (["--model", "nowhere:x"], "(No module named 'nowhere'); modules are looked for in this folder, in"),
    "one input again and again": ([*CODER, "--calibration", "same.npy"], "same.npy: calibration is 20 times the same"),
    "one input alone": ([*CODER, "--calibration", "one.npy"], "one.npy: calibration is one input, which cannot choose"),
    "bytes for floats": ([*CODER, "--calibration", "bytes.npy"], "; pixels go in as float32, divided and normalised"),
    "no epochs": ([*CODER, "--distill", "0"], "--distill: expected an integer"),
    "zeros twice": ([*CODER, "--zeros", "0.5", "--sparsity", "0.5"], "zeros in every weight (--zeros) and a budget"),
    "too many labels": ([*CODER, "--labels", "labels.txt"], "names 2 classes, and Autoencoder answers (16,)"),
    "labels without a name": ([*CODER, "--labels", "gap.txt"], "gap.txt, line 2: has no name, expected that"),
    "no labels": ([*CODER, "--labels", "none.txt"], "none.txt: cannot be read (No such file or directory), expected"),
    "labels that are no text": ([*CODER, "--labels", "junk.bin"], "junk.bin: cannot be read (it is no text), expected"),
    "no file": ([*CODER, "--calibration", "none.npy"], "none.npy: no such file or folder, expected a folder of images"),
    "no weights": ([*CODER, "--init", "none.pt"], "none.pt: no such file"),
    "junk for weights": ([*CODER, "--init", "junk.pt"], "junk.pt: not a checkpoint, or truncated (4 bytes)"),
    "other weights": ([*CONVOLUTION, "--init", "weights.pt"], "does not fit Sequential: 4 missing: 0.weight, 0.bias,"),
    "nine bits": ([*CODER, "--bits", "9"], "--bits: expected an integer from 2 to 8, found '9'"),
    "bytes": ([*CODER, "--size", "1kB"], "1.0 kB is out of reach: the least that can be done here is "),
    "two budgets": ([*CODER, "--size", "1kB", "--bops", "0.1"], "not allowed with"),
    "no input": ([*CONVOLUTION, "--calibration", "batches:nothing"], "batches:nothing() needs at least one input"),
    "empty array": ([*CONVOLUTION, "--calibration", "empty.npy"], "empty.npy holds no inputs, expected an array"),
    "empty folder": ([*CONVOLUTION, "--calibration", "empty"], "empty: holds no images (.jpg, "),
    "no images": ([*CONVOLUTION, "--calibration", "notes"], "and no .npy files; found notes.txt"),
    "damaged image": (
        [*CONVOLUTION, "--calibration", "photos", "--input-size", "8"],
        "photos/1.png: cannot be read as an image (image file is truncated)",
    ),
    "no size": ([*CONVOLUTION, "--calibration", "photos"], "photos: holds images; say in input_size (--input-size)"),
    "NaN in an array": ([*CODER, "--calibration", "nan.npy"], "nan.npy: input 5 has NaN or infinite values"),
    "NaN": ([*CONVOLUTION, "--calibration", "batches:nan"], "batches:nan(), batch 1: input 2 has NaN or infinite"),
    "shapes": (
        [*CONVOLUTION, "--calibration", "batches:shapes"],
        "batches:shapes(), batch 1 is float32 (4, 3, 7, 8), expected float32 (N, 3, 8, 8) as in batch 0; resize or pad",
    ),
    "dtypes": (
        [*CONVOLUTION, "--calibration", "batches:dtypes"],
        "batch 1 is int64 (4, 3, 8, 8), expected float32 (N, 3, 8, 8)",
    ),
    "kinds": ([*CONVOLUTION, "--calibration", "batches:kinds"], "batch 1 holds a mapping of input, batch 0 a tensor"),
    "channels": (
        [*CONVOLUTION, "--calibration", "batches:grey"],
        "Sequential cannot be called with calibration input 3, float32 (N, 1, 8, 8) like all of them: ",
    ),
    "function": ([*CONVOLUTION, "--calibration", "batches:raises"], "batches:raises: raised KeyError ('train')"),
    "no folder": ([*CODER, "-o", "none/ckpt.pt"], "cannot write none/ckpt.pt: there is no folder none"),
    "inputs for nothing": ([*CODER, "--distill-inputs", "inputs.npy"], "what --distill EPOCHS trains on; give both"),
    "a table to train": ([*CODER, "--method", "sqs", "--bits", "4", "--distill", "1"], "would lose what sqs chooses"),
    "one statistic": ([*CODER, "--mean", "0.5"], "--mean and --std go together"),
    "statistics of no image": ([*CODER, "--mean", "0", "--std", "1"], "are for images, and inputs.npy has none"),
    "NaN for a mean": (
        [*CONVOLUTION, "--calibration", "batches:images", "--mean", "nan", "--std", "1"],
        "batches:images: mean is [nan, nan, nan] and std [1.0, 1.0, 1.0], expected finite numbers, of std above 0",
    ),
    "two means": (
        [*CONVOLUTION, "--calibration", "batches:images", "--mean", "0,0", "--std", "1,1"],
        "mean has 2 and std 2 numbers, expected 1 or 3 each for inputs of 3 channels",
    ),
    "multiply-adds": ([*CODER, "--macs", "0.0001"], "0.0% of the multiply-adds cannot be left: "),
    "multiply-adds and bytes": ([*CODER, "--macs", "0.5", "--size", "1kB"], "contradict each other"),
    "no such way": ([*CODER, "--equalise", "all"], "--equalise"),
    "plot of nothing": ([*CODER, "--plot", "a.svg"], "give one with --sparsity, --bops or --size"),
    "plot's kind": ([*CODER, "--size", "9kB", "--plot", "a.gif"], "a name that ends in .png or .svg"),
    "plot's name": ([*CODER, "--size", "9kB", "--plot", "a.svg", "-o", "a.svg"], "name another file"),
    "no file name": ([*CODER, "-o", "notes"], "notes is a folder, expected a file name"),
    "report": ([*CODER, "--json", "none/report.json"], "cannot write none/report.json: there is no folder none"),
    "not writable": ([*CODER, "-o", "/proc/ckpt.pt"], "cannot write /proc/ckpt.pt: "),
}  # fmt: skip


@pytest.fixture
def with_bad_input(trained: Path) -> Path:
    Image = pytest.importorskip("PIL.Image")
    rng = np.random.default_rng(0)
    (trained / "batches.py").write_text(BATCHES)
    (trained / "junk.pt").write_bytes(b"junk")
    for folder in ("empty", "notes", "photos"):
        (trained / folder).mkdir()
    (trained / "notes" / "notes.txt").write_text("nothing")
    for number in range(2):
        pixels = rng.integers(0, 255, (8, 8, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(trained / "photos" / f"{number}.png")
    damaged = trained / "photos" / "1.png"
    damaged.write_bytes(damaged.read_bytes()[:-100])
    np.save(trained / "empty.npy", np.zeros((0, 3, 8, 8), np.float32))
    values = rng.standard_normal((40, 16)).astype(np.float32)
    values[5, 3] = np.nan
    np.save(trained / "nan.npy", values)
    np.save(trained / "one.npy", values[:1])
    np.save(trained / "same.npy", values[:1].repeat(20, 0))
    np.save(trained / "bytes.npy", rng.integers(0, 255, (20, 16), np.uint8))
    (trained / "labels.txt").write_text("cat\ndog\n")
    (trained / "gap.txt").write_text("cat\n\ndog\n")
    (trained / "junk.bin").write_bytes(b"\xff\xfe")
    return trained


@pytest.mark.parametrize("case", BAD_INPUT)
def test_bad_input_is_one_line_and_nothing_is_written(case: str, with_bad_input: Path, run_command: Any) -> None:
    words, message = BAD_INPUT[case]
    before = sorted(path for path in with_bad_input.rglob("*") if "__pycache__" not in path.parts)
    given = words if "--calibration" in words else [*words, "--calibration", "inputs.npy"]
    done = run_command("codeq.compress", *given, cwd=with_bad_input)
    assert done.returncode == 2, done.stderr
    assert message in done.stderr
    assert done.stderr.count("\n") == 1
    assert not done.stdout
    assert sorted(path for path in with_bad_input.rglob("*") if "__pycache__" not in path.parts) == before


def photos_network() -> nn.Module:
    """Build what `batches:build` in BATCHES builds."""
    layers = [nn.Conv2d(3, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4)]
    return nn.Sequential(*layers)


def test_labels_reach_the_program_that_feeds_a_file(with_bad_input: Path, run_command: Any) -> None:
    (with_bad_input / "names.txt").write_text("a cat\na dog\nneither\nboth\n\n")
    words = [*CONVOLUTION, "--calibration", "batches:images", "--mean", "0.5", "--std", "0.25"]
    done = run_command("codeq.compress", *words, "--labels", "names.txt", cwd=with_bad_input)
    assert done.returncode == 0, done.stderr
    assert codeq.load(with_bad_input / "ckpt.pt", factory=photos_network).labels == (
        "a cat",
        "a dog",
        "neither",
        "both",
    )


def test_one_mean_is_every_channels(with_bad_input: Path, run_command: Any) -> None:
    damaged = with_bad_input / "photos" / "1.png"
    pytest.importorskip("PIL.Image").open(with_bad_input / "photos" / "0.png").rotate(90).save(damaged)
    words = [*CONVOLUTION, "--calibration", "photos", "--input-size", "8", "--mean", "0.5", "--std", "0.25"]
    done = run_command("codeq.compress", *words, cwd=with_bad_input)
    assert done.returncode == 0, done.stderr
    assert codeq.load(with_bad_input / "ckpt.pt", photos_network).preprocessing == {
        "mean": [0.5] * 3,
        "std": [0.25] * 3,
        "max_pixel": [255.0],
        "crop": [0.875],
    }


def test_what_names_one_array_otherwise_is_taken(with_bad_input: Path, run_command: Any) -> None:
    """An array alone needs no name: there is nothing to mix it up with."""
    np.savez(with_bad_input / "named.npz", anything=np.load(with_bad_input / "inputs.npy"))
    done = run_command("codeq.compress", *CODER[:-1], "named.npz", cwd=with_bad_input)
    assert done.returncode == 0, done.stderr


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
    session = stock_session(two_inputs / "net.onnx")
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
    session = stock_session(tmp_path / "net.onnx")
    assert np.abs(session.run(["last_hidden_state"], fed)[0] - expected).max() <= bound
    interpreter = litert.Interpreter(model_path=str(tmp_path / "net.tflite"))
    runner = interpreter.get_signature_runner()
    rows = [runner(**{name: array[row : row + 1] for name, array in fed.items()}) for row in range(6)]
    found = np.concatenate([row["last_hidden_state"] for row in rows])
    assert np.abs(found - expected).max() <= bound


def test_the_names_are_those_of_the_methods() -> None:
    assert tuple(METHODS) == names.METHODS
