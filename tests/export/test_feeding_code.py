"""`inspect --code` prints a program that gives a file what its network was trained on, with its runtime alone."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

import codeq
from codeq.data.dataset import Dataset
from codeq.data.digits import load_digits
from codeq.data.plain_images import read_images
from export import ExportError, export_onnx, export_tflite
from export.backend import backend_of
from export.feeding_code import feeding_code
from export.inspect import main
from export.metadata import KEY
from export.onnx.__main__ import main as export_main

MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
LABELS = ("cat", "dog", 'it\'s "both"')
PHOTOGRAPHS = {"mean": MEAN, "std": STD, "max_pixel": [255.0], "crop": [0.875]}


class Colours(nn.Sequential):
    """Tells colours apart; takes images of 20 x 28 pixels."""

    def __init__(self, channels: int = 3) -> None:
        torch.manual_seed(0)
        layers = (
            nn.Conv2d(channels, 8, 3, stride=2),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(8, 3),
        )
        super().__init__(*layers)


def attached() -> nn.Module:
    model = Colours()
    codeq.attach(model, 4)
    return model.eval()


class Tokens(nn.Module):
    """Takes positions, and answers with two tensors."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.layer = nn.Embedding(10, 4), nn.Linear(4, 2)

    def forward(self, ids: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
        x = self.embedding(ids).mean(1) * scale
        return self.layer(x), x


def run(path: Path, *arguments: str) -> str:
    """Run the program of a file where it lies, in a Python that has none of ours and no PyTorch."""
    program = path.with_suffix(".py")
    program.write_text(feeding_code(path))
    compile(program.read_text(), program, "exec")
    words = [sys.executable, "-I", "-c", "import sys, runpy; sys.modules.update(torch=None, codeq=None, export=None)\n"]
    words[-1] += "sys.argv = sys.argv[1:]; runpy.run_path(sys.argv[0], run_name='__main__')"
    done = subprocess.run([*words, program, *arguments], cwd=path.parent, capture_output=True, text=True, check=False)
    assert not done.returncode, done.stderr
    return done.stdout


def write_image(path: Path, size: tuple[int, int]) -> Path:
    pixels = np.random.default_rng(sum(size)).integers(0, 256, (size[1], size[0], 3), np.uint8)
    Image.fromarray(pixels).save(path)
    return path


FORMS: dict[str, tuple[Any, str, dict[str, Any]]] = {
    "onnx": (export_onnx, "int8.onnx", {"activations": "int8"}),
    "packed": (export_onnx, "packed.onnx", {"storage": "packed"}),
    "tflite": (export_tflite, "float.tflite", {}),
    "codes": (export_tflite, "codes.tflite", {"activations": "int8", "io": "int8", "layout": "nhwc"}),
    "batch": (export_tflite, "batch.tflite", {"activations": "int8", "batch": 1}),
}


@pytest.mark.parametrize("form", FORMS)
def test_a_picture_is_what_it_was_in_training(form: str, tmp_path: Path) -> None:
    export, name, options = FORMS[form]
    model = attached()
    path, inputs = tmp_path / name, torch.randn(8, 3, 20, 28, generator=torch.Generator().manual_seed(1))
    given = {"calibration": inputs} if "activations" in options else {}
    export(model, (inputs[:2],), path, preprocessing=PHOTOGRAPHS, labels=LABELS, **options, **given)
    sizes = ((60, 40), (33, 71), (28, 20))
    images = [write_image(tmp_path / f"{width}.png", (width, height)) for width, height in sizes]
    lines = run(path, *map(str, images)).splitlines()
    runner = backend_of(path).open_runner(path)
    runner.open()
    for line, image in zip(lines, images, strict=True):
        x = read_images([str(image)], (20, 28), MEAN, STD).numpy()
        (expected,) = runner.finish(runner.run(runner.prepare([x])))
        best = int(expected.argmax())
        assert line == f"{image} {LABELS[best]} {float(expected[0, best])}"


def test_pixels_are_divided_by_what_they_were(tmp_path: Path) -> None:
    data = load_digits(shift=None, flip=None)
    assert (data.preprocessing["max_pixel"], data.classes[3]) == ([16.0], "3")
    path = tmp_path / "digits.onnx"
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 10)).eval()
    x = data.test.load(torch.arange(4))
    export_onnx(model, (x,), path, preprocessing=data.preprocessing, labels=data.classes)
    namespace: dict[str, Any] = {}
    exec(compile(feeding_code(path).replace("'digits.onnx'", repr(str(path))), "program", "exec"), namespace)
    pixels = data.test.pixels[:4].numpy()  # type: ignore[attr-defined]
    found = np.concatenate([namespace["prepare"](image.transpose(1, 2, 0)) for image in pixels])
    assert np.array_equal(found, x.numpy())
    assert namespace["LABELS"] == [*data.classes]


def test_other_inputs_have_their_shapes_and_types(tmp_path: Path) -> None:
    path = tmp_path / "tokens.onnx"
    example = {"ids": torch.zeros(2, 5, dtype=torch.int64), "scale": torch.ones(2, 1)}
    model = Tokens().eval()
    export_onnx(model, example, path)
    assert "('ids', (1, 5), np.int64)," in feeding_code(path)
    ids, scale = np.array([1, 2, 3, 4, 5]), np.array([0.5])  # one input each; the program gives them their batch
    for name, array in {"ids": ids, "scale": scale}.items():
        np.save(tmp_path / f"{name}.npy", array)
    wanted = model(torch.from_numpy(ids)[None], torch.tensor([[0.5]]))
    with pytest.raises(AssertionError, match=r"give an \.npy file for each input: ids, scale"):
        run(path)
    with pytest.raises(AssertionError, match=r"scale\.npy: cannot reshape array of size 1 into shape \(1,5\)"):
        run(path, str(tmp_path / "scale.npy"), str(tmp_path / "ids.npy"))
    first, second = run(path, str(tmp_path / "ids.npy"), str(tmp_path / "scale.npy")).splitlines()
    assert first.startswith("(1, 2) ")
    assert np.allclose([float(value) for value in second.split()[2:]], wanted[1].detach().numpy()[0], atol=1e-5)


def test_a_file_that_does_not_say_gets_no_invented_numbers(tmp_path: Path) -> None:
    path = tmp_path / "colours.onnx"
    export_onnx(Colours(), (torch.randn(2, 3, 20, 28),), path, preprocessing={"mean": MEAN, "std": STD})
    assert "MEAN" not in feeding_code(path)
    np.save(tmp_path / "x.npy", np.zeros((3, 20, 28)))
    assert run(path, str(tmp_path / "x.npy")).startswith("(1, 3) ")


def test_without_labels_it_says_where_the_largest_is(tmp_path: Path) -> None:
    path = tmp_path / "colours.onnx"
    x = torch.randn(2, 3, 20, 28)
    export_onnx(attached(), (x,), path, preprocessing=PHOTOGRAPHS)
    image = write_image(tmp_path / "a.png", (28, 20))
    assert run(path, str(image)).startswith(f"{image} (1, 3) largest at ")
    with pytest.raises(AssertionError, match="give pictures, as in: python "):
        run(path)
    with pytest.raises(AssertionError, match=r"no\.png: .*No such file"):
        run(path, str(tmp_path / "no.png"))


def test_no_file_chooses_code(tmp_path: Path) -> None:
    evil = "raise SystemExit('chosen')"
    path = tmp_path / "colours.onnx"
    given: Any = {"mean": f"0); {evil} #", "std": [1.0], "max_pixel": [255]}
    export_onnx(Colours(1), (torch.randn(2, 1, 20, 28),), path, preprocessing=given)
    model = onnx.load(path)
    (record,) = (entry for entry in model.metadata_props if entry.key == KEY)
    content = json.loads(record.value)
    content["session_options"] = {f'a"); {evil} #': "1"}
    assert "MEAN" not in feeding_code(path)  # no numbers
    record.value = json.dumps(content)
    onnx.save(model, path)
    with pytest.raises(ExportError, match="which a file may not set"):
        feeding_code(path)


def test_the_command_prints_the_program_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "colours.onnx"
    export_onnx(Colours(1), (torch.randn(2, 1, 20, 28),), path, preprocessing={})
    assert main([str(path), "--code"]) == 0
    assert capsys.readouterr().out == feeding_code(path)
    with pytest.raises(ExportError, match="--code prints a program, and no inspection"):
        main([str(path), "--code", "--json", "-"])


def test_a_checkpoint_carries_them_to_the_file(tmp_path: Path) -> None:
    path, file = tmp_path / "net.pt", tmp_path / "net.onnx"
    codeq.save(path, attached(), input_shape=(3, 20, 28), preprocessing=PHOTOGRAPHS, labels=LABELS)
    loaded = codeq.load(path, Colours)
    assert loaded.labels == LABELS
    assert export_main([str(path), "-o", str(file), "--model", "tests.export.test_feeding_code:Colours"]) == 0
    metadata = backend_of(file).read(file).metadata
    assert (metadata.labels, metadata.preprocessing) == (LABELS, PHOTOGRAPHS)
    for labels in (["one\nline"], [1]):
        with pytest.raises(codeq.CheckpointError, match="'labels' is no list of names"):
            codeq.save(path, Colours(), input_shape=(3, 20, 28), labels=labels)


def test_a_data_set_says_how_its_inputs_are_made() -> None:
    split: Any = None
    cropped = Dataset(split, split, 2, MEAN, STD, (3, 8, 8), crop=0.875)
    assert cropped.preprocessing == PHOTOGRAPHS
