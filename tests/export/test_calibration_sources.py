"""`--calibration` of the export commands and `calibration=` of the functions: every kind of source, to the grids."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import codeq
from codeq.activations.learned_step import QuantizedActivations
from codeq.errors import CalibrationError
from export import export_onnx
from export.backend import get_backend
from export.errors import ExportError
from export.onnx import __main__ as onnx
from export.tflite import __main__ as tflite

FACTORY = "from torch import nn\n\ndef net():\n    return nn.Sequential(nn.Flatten(), nn.Linear(192, 3))\n"
MEAN, STD = [0.5, 0.4, 0.3], [0.25, 0.5, 1.0]
X = torch.arange(8 * 192.0).reshape(8, 3, 8, 8) / 1536


def network() -> nn.Module:
    model = nn.Sequential(nn.Flatten(), nn.Linear(192, 3))
    codeq.attach(model, bits=4)
    codeq.freeze(model)
    return model.eval()


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user's folder: a network, two checkpoints, images, arrays and code."""
    (tmp_path / "factory_of_ours.py").write_text(
        FACTORY + "\ndef batches():\n    import torch\n"
        "    for number in range(2):\n        yield torch.full((4, 3, 8, 8), float(number)), torch.arange(4)\n"
    )
    model = network()
    for name, preprocessing in (("net", {"mean": MEAN, "std": STD}), ("bare", {})):
        codeq.save(
            tmp_path / f"{name}.pt", model, input_shape=(3, 8, 8), held_inputs=X[:2], preprocessing=preprocessing
        )
    for number in range(4):
        place = tmp_path / "images" / str(number % 2)
        place.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (20, 20), (60 * number, 255, 0)).save(place / f"{number}.png")
    (tmp_path / "arrays").mkdir()
    for number in range(3):
        np.save(tmp_path / "arrays" / f"{number}.npy", X[number].numpy())
    np.save(tmp_path / "x.npy", X.numpy())
    (tmp_path / "none").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def input_range(path: Path) -> tuple[float, float]:
    """What the codes of the file's input stand for."""
    grids = get_backend("onnx").read(path).metadata.activations
    assert grids is not None
    grid = grids["input"]
    return -grid.scale * grid.zero_point, grid.scale * (255 - grid.zero_point)


WORDS = ["--model", "factory_of_ours:net", "--activations", "int8", "--ranges", "min-max", "--force"]


@pytest.mark.parametrize(
    ("checkpoint", "options", "expected"),
    [
        ("net.pt", ["--calibration", "images"], (-2.0, 1.2)),
        (
            "bare.pt",
            ["--calibration", "images", "--mean", "0,0,0", "--std", "1,1,1"],
            (0, 1),
        ),
        ("bare.pt", ["--calibration", "images", "--mean", "0", "--std", "1"], (0, 1)),
        ("bare.pt", ["--calibration", "arrays"], (0, 575 / 1536)),
        ("bare.pt", ["--calibration", "x.npy"], (0, 1535 / 1536)),
        ("bare.pt", ["--calibration", "factory_of_ours:batches"], (0, 1)),
    ],
    ids=["images", "images without preprocessing", "one mean for all channels", "arrays", "npy", "function"],
)
def test_every_source_gives_the_ranges(
    checkpoint: str, options: list[str], expected: tuple[float, float], folder: Path, run_command: Any
) -> None:
    done = run_command("export.onnx", checkpoint, "-o", "net.onnx", *WORDS, *options, cwd=folder)
    assert done.returncode == 0, done.stderr
    assert input_range(folder / "net.onnx") == pytest.approx(expected, abs=0.02)


def test_sources_that_give_nothing_are_one_line(folder: Path, run_command: Any) -> None:
    (folder / "pickled.npy").write_bytes(_pickled())
    np.savez(folder / "two.npz", a=X.numpy(), b=X.numpy())
    cases = [
        (["--calibration", "nowhere"], "nowhere: no such file or folder, expected a folder of images or of .npy files"),
        (["--calibration", "none"], "none: holds no images (.jpg, .jpeg, .png, .bmp, .webp) and no .npy files"),
        (["--calibration", "pickled.npy"], "it holds pickled Python objects, which run code when they are opened"),
        (["--calibration", "two.npz"], "two.npz: holds 2 arrays, expected one of inputs"),
        (
            ["--calibration", "factory_of_ours:nothing"],
            "factory_of_ours:nothing: cannot be imported (module ",
        ),
        (["--calibration", "images"], "bare.pt: stores no mean of pixels, which images are normalised by; give those"),
        (["--calibration", "images", "--mean", "0,0,0"], "bare.pt: stores no std of pixels"),
        (
            ["--calibration", "images", "--mean", "0,0", "--std", "1"],
            "images: mean has 2 and std 1 numbers, expected 3 each for float32 (N, 3, 8, 8)",
        ),
        (
            ["--calibration", "x.npy", "--mean", "0,0,0"],
            "--mean and --std are for images, and x.npy is no folder of",
        ),
        (["--mean", "0,0,0"], "--mean and --std are for images in --calibration FOLDER"),
        (["--mean", "0;0"], "argument --mean: expected numbers with commas between them, found '0;0'"),
    ]
    for options, message in cases:
        done = run_command("export.onnx", "bare.pt", "-o", "net.onnx", *WORDS, *options, cwd=folder)
        assert done.returncode == 2, (options, done)
        assert message in done.stderr, (options, done.stderr)
        assert len(done.stderr.strip().splitlines()) == 1, done.stderr
        assert done.stdout == ""
        assert not (folder / "net.onnx").exists()
    done = run_command(
        "export.onnx", "net.pt", *WORDS, "--calibration", "images", "--mean", "0,0,0", "--std", "1,1,1", cwd=folder
    )
    assert done.returncode == 2
    assert "--mean is [0.0, 0.0, 0.0], but net.pt was trained with [0.5, 0.4, 0.3]; leave it out" in done.stderr


def _pickled() -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, np.array([{}], object))
    return buffer.getvalue()


@pytest.mark.parametrize("command", [onnx, tflite], ids=["onnx", "tflite"])
def test_help_names_the_sources(command: Any, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        command.main(["--help"])
    text = " ".join(capsys.readouterr().out.split())
    assert "a folder of images or of .npy files, an .npy or .npz file of (N, ...), or package.module:function" in text


def loader() -> DataLoader[Any]:
    return DataLoader(TensorDataset(X, torch.zeros(8, dtype=torch.int64)), batch_size=3)


def test_functions_take_a_data_loader(tmp_path: Path) -> None:
    model = network()
    for name, given in (("loader", loader()), ("tensor", X)):
        export_onnx(model, (X[:2],), tmp_path / f"{name}.onnx", activations="int8", calibration=given)
    assert (tmp_path / "loader.onnx").read_bytes() == (tmp_path / "tensor.onnx").read_bytes()


def test_functions_refuse_batches_that_differ(tmp_path: Path) -> None:
    with pytest.raises(CalibrationError, match=r"^calibration, batch 1 holds a mapping of x, batch 0 a tensor"):
        export_onnx(network(), (X,), tmp_path / "net.onnx", activations="int8", calibration=[X, {"x": X}])
    with pytest.raises(ExportError, match="calibration gives 3 by position, expected 1 by position"):
        export_onnx(network(), (X,), tmp_path / "net.onnx", activations="int8", calibration=[(X, X, X)])
    assert list(tmp_path.iterdir()) == []


class Two(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(4, 2)

    def forward(self, x: torch.Tensor, steps: torch.Tensor) -> torch.Tensor:
        return self.fc(x) * steps[:, None]


def test_integers_that_a_network_takes_are_no_labels() -> None:
    model = Two()
    codeq.attach(model, bits=4, grid="integer")
    x, steps = torch.randn(6, 4), torch.arange(6)
    grids = []
    for given in ((x, steps), [(x[:3], steps[:3]), (x[3:], steps[3:])], [{"steps": steps, "x": x}]):
        quantized = QuantizedActivations(model, (x, steps) if not isinstance(given[0], dict) else given[0])
        quantized.calibrate(given)
        grids.append(quantized.encodings())
    assert grids[0] == grids[1] == grids[2]
