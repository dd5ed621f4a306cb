"""A file is what is written anew for its network, whatever was asked for; and what is another one is named."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import onnx
import pytest
import torch
from torch import Tensor, nn

import codeq
from export.backend import Backend, get_backend
from export.errors import ExportError
from export.metadata import KEY
from export.options import Quantization
from export.publish import publish
from export.rewrite import FROM_FILE, Rewriting, rewrite

SHAPE = (3, 8, 8)


def network() -> nn.Module:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3, groups=8),
        nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5),
    ).eval()  # fmt: skip
    codeq.attach(model, 4, grid_limit=7)
    codeq.freeze(model)
    return model


MODEL, INPUTS = network(), torch.randn(8, *SHAPE, generator=torch.Generator().manual_seed(1))
INT8 = Quantization(activations="int8", calibration=INPUTS, from_checkpoint=True)
FLOAT = Quantization()
REQUESTS: dict[str, tuple[str, Quantization, Mapping[str, Any]]] = {
    "onnx": ("onnx", FLOAT, {}),
    "onnx int8": ("onnx", INT8, {}),
    "onnx int8 except": ("onnx", Quantization(activations="int8", calibration=INPUTS, activations_except=("7",)), {}),
    "onnx sparse": ("onnx", FLOAT, {"storage": "sparse"}),
    "onnx packed": ("onnx", FLOAT, {"storage": "packed"}),
    "onnx smallest int8": ("onnx", INT8, {"storage": "smallest"}),
    "onnx portable": ("onnx", FLOAT, {"storage": "packed", "target": "portable"}),
    "onnx opset": ("onnx", FLOAT, {"opset": 19}),
    "onnx debug": ("onnx", FLOAT, {"debug_info": True}),
    "onnx fixed": ("onnx", FLOAT, {"dynamic_batch": False}),
    "onnx external": ("onnx", FLOAT, {"external_data_threshold": 100}),
    "tflite": ("tflite", FLOAT, {}),
    "tflite int8": ("tflite", INT8, {}),
    "tflite nhwc codes": ("tflite", INT8, {"layout": "nhwc", "io": "int8"}),
    "tflite hybrid": ("tflite", FLOAT, {"hybrid": True}),
    "tflite int4": ("tflite", FLOAT, {"int4": True, "sparse": "off"}),
}


def write(name: str, folder: Path, model: nn.Module = MODEL, inputs: Any = INPUTS) -> tuple[Backend, Path]:
    kind, quantization, options = REQUESTS[name]
    backend = get_backend(kind)
    path = folder / f"net{backend.suffix}"
    request = backend.request(quantization=quantization, check_inputs=inputs, **options)
    publish(backend, model, inputs[:2], path, request)
    return backend, path


def compare(backend: Backend, path: Path, quantization: Quantization | None = None, **about: Any) -> Rewriting:
    return rewrite(backend, backend.read(path), MODEL, INPUTS, quantization=quantization, **about)


@pytest.mark.slow("an export, and another one, of each kind")
@pytest.mark.parametrize("name", REQUESTS)
def test_a_file_is_what_is_written_anew(name: str, tmp_path: Path) -> None:
    backend, path = write(name, tmp_path)
    given = REQUESTS[name][1]
    found = compare(backend, path, given if given.from_checkpoint else None)
    assert found.differences == ()
    assert found.notes == ((FROM_FILE,) if given.activations == "int8" and not given.from_checkpoint else ())


def edit(path: Path, change: Any) -> None:
    model = onnx.load(path)
    change(model)
    path.write_bytes(model.SerializeToString(deterministic=True))


def test_every_difference_has_its_place(tmp_path: Path) -> None:
    backend, path = write("onnx", tmp_path)

    def change(model: onnx.ModelProto) -> None:
        conv = next(node for node in model.graph.node if node.op_type == "Conv")
        next(item for item in conv.attribute if item.name == "pads").ints[0] = 2
        model.graph.initializer[0].raw_data = bytes(len(model.graph.initializer[0].raw_data))
        model.graph.output[0].name = "\x1b[2J"

    edit(path, change)
    found = [str(item) for item in compare(backend, path).differences]
    assert any(
        text.startswith("graph.node.") and text.endswith(": [2, 1, 1, 1], expected [1, 1, 1, 1]") for text in found
    )
    assert any(text.startswith("graph.initializer.") and "raw_data: " in text for text in found)
    assert any("\\x1b[2J" in text for text in found)
    assert all(text.isprintable() for text in found)


def test_what_other_versions_explain_decides_nothing(tmp_path: Path) -> None:
    backend, path = write("onnx", tmp_path)

    def age(model: onnx.ModelProto) -> None:
        entry = next(entry for entry in model.metadata_props if entry.key == KEY)
        entry.value = entry.value.replace(f'"onnx":"{onnx.__version__}"', '"onnx":"1.20.0"')
        model.graph.node[0].name = "other"

    edit(path, age)
    found = compare(backend, path)
    assert found.other_versions == (f"onnx 1.20.0, not {onnx.__version__}",)
    assert (len(found.differences), found.deciding) == (2, ())


def test_the_checkpoint_s_preprocessing_is_the_file_s(tmp_path: Path) -> None:
    backend, path = write("onnx", tmp_path)
    found = compare(backend, path, preprocessing={"mean": [0.5], "std": [0.25]})
    assert [item.where for item in found.deciding][:2] == [
        "metadata codeq.preprocessing.mean",
        "metadata codeq.preprocessing.std",
    ]


def test_grids_are_chosen_again(tmp_path: Path) -> None:
    backend, path = write("onnx int8", tmp_path)
    again = Quantization(activations="int8", calibration=2 * INPUTS, from_checkpoint=True)
    where = [item.where for item in compare(backend, path, again).deciding]
    assert any(name.startswith("metadata codeq.activations.input.scale") for name in where)


def test_what_cannot_be_compared_says_why(tmp_path: Path) -> None:
    backend, path = write("onnx", tmp_path)

    def set_options(text: str) -> None:
        def change(model: onnx.ModelProto) -> None:
            entry = next(entry for entry in model.metadata_props if entry.key == KEY)
            entry.value = entry.value.replace('"options":{}', text)

        edit(path, change)

    set_options('"options":{"color":"red"}')
    with pytest.raises(ExportError, match="asked for options that this release does not know"):
        compare(backend, path)
    path.unlink()
    write("onnx", tmp_path)
    set_options('"option":{}')
    with pytest.raises(ExportError, match="does not say what was asked for, as files of older releases"):
        compare(backend, path)


class Two(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 3)

    def forward(self, left: Tensor, right: Tensor) -> Tensor:
        result: Tensor = self.layer(left + right)
        return result


def test_networks_of_several_inputs(tmp_path: Path) -> None:
    model = Two().eval()
    codeq.attach(model, 4)
    codeq.freeze(model)
    inputs = {"left": torch.randn(4, 4), "right": torch.randn(4, 4)}
    backend, path = get_backend("onnx"), tmp_path / "net.onnx"
    publish(backend, model, inputs, path, backend.request(check_inputs=inputs))
    assert rewrite(backend, backend.read(path), model, inputs).differences == ()
