"""A graph that XNNPACK would multiply sparsely is written whole in that form, or in one that nothing takes for it."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

pytest.importorskip("ai_edge_litert", reason="LiteRT is an extra: pip install '.[tflite]'")

import codeq
from export import check_parity
from export.metadata import KEY
from export.report import Report
from export.tflite import export_tflite
from export.tflite.file.flatbuffer import read, with_metadata
from export.tflite.inspect import inspect_file
from export.tflite.runner import LiteRtRunner
from models.same_padding import same_pad2d

SIZE = 24


class Network(nn.Module):
    """A network of a phone, small: 3 x 3 first, then 1 x 1 and depthwise, a residual, a mean, a linear layer."""

    def __init__(self, zeros: float = 0.9, middle: nn.Module | None = None) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3, stride=2, padding=1)
        self.expand = nn.Conv2d(8, 48, 1)
        self.each = nn.Conv2d(48, 48, 3, stride=2, padding=1, groups=48)
        self.project = nn.Conv2d(48, 8, 1)
        self.wide = nn.Conv2d(8, 64, 1)
        self.narrow = nn.Conv2d(64, 8, 1)
        self.middle = middle or nn.Identity()
        self.fc = nn.Linear(8, 5)
        with torch.no_grad():
            for layer in (self.expand, self.project, self.wide, self.narrow):
                layer.weight.mul_(torch.rand(layer.weight.shape) >= zeros)

    def begin(self, x: Tensor) -> Tensor:
        return F.relu6(self.first(x))

    def forward(self, x: Tensor) -> Any:
        x = self.begin(x)
        x = self.project(F.relu6(self.each(F.relu6(self.expand(x)))))
        x = x + self.narrow(F.relu(self.wide(x)))
        return self.fc(F.adaptive_avg_pool2d(self.middle(x), 1).flatten(1))


class ExtraOutput(Network):
    """One that another part of the network reads, inside."""

    def forward(self, x: Tensor) -> Any:
        x = self.begin(x)
        inside = F.relu6(self.expand(x))
        x = self.project(F.relu6(self.each(inside)))
        x = x + self.narrow(F.relu(self.wide(x)))
        return self.fc(F.adaptive_avg_pool2d(x, 1).flatten(1)), inside


class PaddedByHand(Network):
    """Its padding is one operator of its own, since two layers read it: full, in front of the first convolution."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.first.padding = (0, 0)
        self.also = nn.Conv2d(3, 8, 3, stride=2)

    def begin(self, x: Tensor) -> Tensor:
        x = F.pad(x, (1, 1, 1, 1))
        return F.relu6(self.first(x)) + self.also(x)


class Keras(Network):
    """Zeros behind alone in one window, as Keras pads."""

    def begin(self, x: Tensor) -> Tensor:
        return F.relu6(F.conv2d(F.pad(x, (0, 1, 0, 1)), self.first.weight, self.first.bias, stride=2))


class AllKeras(Network):
    """Zeros as Keras puts them: of even sizes behind alone, of odd ones around; a window of 5 x 5 among them."""

    def __init__(self, size: int, middle: nn.Module | None = None) -> None:
        super().__init__(middle=middle)
        self.first.padding = (0, 0)
        self.first = nn.Sequential(same_pad2d((size, size), (3, 3), 2), self.first)
        half = -(-size // 2)
        each = nn.Conv2d(48, 48, 5, stride=2, groups=48)
        self.each = nn.Sequential(same_pad2d((half, half), (5, 5), 2), each)

    def begin(self, x: Tensor) -> Tensor:
        return F.relu6(self.first(x))


def export(model: nn.Module, path: Path, size: int = SIZE, **options: Any) -> tuple[Report[Any], Tensor]:
    x = torch.randn(3, 3, size, size)
    codeq.attach(model.eval(), 8)
    codeq.freeze(model)
    report = export_tflite(model, (x[:2],), path, check_inputs=(x,), keep_dead_channels=True, **options)
    assert check_parity(path, model, x, strict=True).ok
    return report, x


def pads(path: Path) -> list[list[list[int]]]:
    from export.tflite.runtime import schema

    model = read(path.read_bytes())
    graph = model.subgraphs[0]
    found = []
    for operator in graph.operators:
        if model.operatorCodes[operator.opcodeIndex].builtinCode == schema().BuiltinOperator.PAD:
            data = model.buffers[graph.tensors[operator.inputs[1]].buffer].data
            found.append(np.frombuffer(bytes(data), np.int32).reshape(4, 2).tolist())
    return found


def outputs(path: Path, x: Tensor) -> np.ndarray:
    runner = LiteRtRunner(path)
    runner.open()
    return runner.finish(runner.run(runner.prepare([x.numpy()])))[0]


@pytest.mark.parametrize("size", [24, 25, 26])
def test_a_network_that_qualifies_is_padded_around(size: int, tmp_path: Path) -> None:
    torch.manual_seed(0)
    report, x = export(Network(), tmp_path / "on.tflite", size)
    found = report.details.sparse_inference
    assert found.engages
    assert "zeros in 1x1 weights" in found.reason
    assert pads(report.path) == [[[0, 0], [1, 1], [1, 1], [0, 0]]] * 2
    assert report.details.operators["DENSIFY"] >= 1
    assert "sparse inference" in str(report)
    torch.manual_seed(0)
    off, _ = export(Network(), tmp_path / "off.tflite", size, sparse_inference="off")
    assert off.details.sparse_inference.reason == "it is switched off"
    assert pads(off.path) != pads(report.path)
    assert np.array_equal(outputs(off.path, x), outputs(report.path, x))


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (lambda: Network(zeros=0.5), r"1x1 weights have 5\d% zeros, more than 67% needed"),
        (lambda: Network(middle=nn.Conv2d(8, 8, 3, padding=1)), r"^middle is a convolution of 3 x 3, stride 1$"),
        (lambda: Network(middle=nn.Softmax(1)), "SOFTMAX"),
        (lambda: Network(middle=nn.Conv2d(8, 8, 5, padding=1, groups=8)), r"^middle has not 2 zeros on every side$"),
        (ExtraOutput, r"reads what is computed before the last mean$"),
        (Keras, r"^each has not 1 zeros behind, as that of other windows$"),
        (lambda: AllKeras(SIZE, nn.Upsample(scale_factor=2, mode="bilinear")), r"on one side, and .* is resized$"),
    ],
)
def test_what_does_not_qualify_stays_as_it_was(model: Any, reason: str, tmp_path: Path) -> None:
    import re

    torch.manual_seed(0)
    report, _ = export(model(), tmp_path / "net.tflite")
    found = report.details.sparse_inference
    assert not found.engages
    assert re.search(reason, found.reason), found.reason
    assert pads(report.path)[:1] != [[[0, 0], [1, 1], [1, 1], [0, 0]]]


@pytest.mark.parametrize("layout", ["nchw", "nhwc"])
@pytest.mark.parametrize("size", [24, 25, 26, 27])
def test_padding_behind_is_turned_to_the_front(size: int, layout: str, tmp_path: Path) -> None:
    """Of 24 both windows are padded behind, of 26 and 27 one, and of 25 none."""
    torch.manual_seed(0)
    model = AllKeras(size)
    report, x = export(model, tmp_path / "on.tflite", size, layout=layout)
    found = report.details.sparse_inference
    assert found.engages
    mirrored = size != 25
    assert report.details.operators.get("REVERSE_V2", 0) == (2 if mirrored else 0)
    assert len(found.mirrored) == (2 if mirrored else 0)
    assert pads(report.path) == [[[0, 0], [half, half], [half, half], [0, 0]] for half in (1, 2)]
    torch.manual_seed(0)
    off, _ = export(AllKeras(size), tmp_path / "off.tflite", size, sparse_inference="off", layout=layout)
    assert "REVERSE_V2" not in off.details.operators
    on, plain = outputs(report.path, x), outputs(off.path, x)
    assert np.abs(on - plain).max() <= 1e-5 * np.abs(plain).max()
    assert {weight.name for weight in inspect_file(report.path).weights} == {
        w.name for w in inspect_file(off.path).weights
    }


def test_a_file_that_says_nothing_of_its_mirrored_kernels_is_caught(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = AllKeras(SIZE)
    report, x = export(model, tmp_path / "on.tflite")
    data = report.path.read_bytes()

    def unsaid(text: str) -> str:
        content = json.loads(text)
        for layout in content["layout"]["weights"].values():
            del layout[2:]
        return json.dumps(content)

    report.path.write_bytes(with_metadata(data, KEY, unsaid))
    assert not check_parity(report.path, model, x).ok


def test_what_begins_as_if_and_does_not_qualify_has_dense_weights(tmp_path: Path) -> None:
    """The hazard: a full PAD in front of the first convolution, and something inside that does not qualify."""
    torch.manual_seed(0)
    report, _ = export(PaddedByHand(middle=nn.Conv2d(8, 8, 3, padding=1)), tmp_path / "net.tflite", layout="nhwc")
    assert report.details.sparse_inference.hazard
    assert "DENSIFY" not in report.details.operators
    assert {weight.storage for weight in report.weights} == {"int8"}
    assert [[0, 0], [1, 1], [1, 1], [0, 0]] in pads(report.path)


def test_codes_and_hybrid_files_have_no_such_path(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = Network().eval()
    x = torch.randn(3, 3, SIZE, SIZE)
    codeq.attach(model, 8)
    for name, options in {"int8": {"activations": "int8", "calibration": x}, "hybrid": {"hybrid": True}}.items():
        report = export_tflite(model, (x[:2],), tmp_path / f"{name}.tflite", check_inputs=(x,), **options)  # type: ignore[arg-type]
        assert report.details.sparse_inference is None
