"""Zeros are left out of files and put back, in Python and by LiteRT, where that is smaller."""

from typing import Any

import numpy as np
import pytest
import torch.nn.functional as F
from torch import nn

from export.tflite.file.sparse import CompressedRows, compress

SHAPES = [(5,), (1, 1), (3, 4, 5, 6), (2, 300), (300, 2), (1, 3, 3, 7)]

LAYERS: dict[str, tuple[nn.Module, tuple[int, ...]]] = {
    "plain": (nn.Conv2d(16, 24, 3), (16, 9, 7)),
    "stride 2": (nn.Conv2d(16, 24, 3, stride=2, padding=1), (16, 8, 9)),
    "unequal": (nn.Conv2d(16, 24, (3, 2), padding=(2, 0)), (16, 6, 9)),
    "dilated": (nn.Conv2d(16, 24, 3, dilation=2, padding=2), (16, 9, 7)),
    "one channel": (nn.Conv2d(1, 128, 5), (1, 9, 7)),
    "grouped": (nn.Conv2d(32, 48, 3, groups=2), (32, 5, 5)),
    "depthwise": (nn.Conv2d(256, 256, 3, groups=256), (256, 5, 4)),
    "long rows": (nn.Conv2d(300, 16, 1), (300, 3, 3)),
}


@pytest.mark.parametrize("density", [0.0, 0.1, 1.0])
@pytest.mark.parametrize("shape", SHAPES)
def test_zeros_are_put_back(shape: tuple[int, ...], density: float) -> None:
    rng = np.random.default_rng(0)
    codes = (rng.integers(-8, 8, shape) * (rng.random(shape) < density)).astype(np.int8)
    rows = compress(codes)
    assert np.count_nonzero(rows.values) == len(rows.values)
    assert np.array_equal(rows.restore(), codes)


def test_by_hand() -> None:
    rows = compress(np.array([[0, 5, 0], [0, 0, 0], [7, 0, -1]], np.int8))
    assert rows.order == (0, 1)
    assert rows.values.tolist() == [5, 7, -1]
    assert rows.segments.tolist() == [0, 1, 1, 3]
    assert rows.indices.tolist() == [1, 0, 2]
    assert rows.nbytes == 3 + 4 + 3


def test_the_axis_with_the_fewest_bytes() -> None:
    codes = np.zeros((200, 3, 3, 2), np.int8)
    codes[::9] = 1
    rows = compress(codes)
    assert rows.order == (1, 2, 3, 0)
    assert (rows.segments.dtype, rows.indices.dtype) == (np.uint16, np.uint8)


@pytest.mark.parametrize(
    ("segments", "indices", "reason"),
    [
        ([0, 1], [0, 1], "2 segments, expected 3"),
        ([0, 2, 1], [0, 1], "3 segments"),
        ([0, 1, 3], [0, 1], "2 values, 2 indices, 3 in rows"),
        ([0, 1, 2], [0, 3], "beyond its row of 3"),
    ],
)
def test_damaged_positions(segments: list[int], indices: list[int], reason: str) -> None:
    values = np.ones(2, np.int8)
    rows = CompressedRows((2, 3), (0, 1), values, np.array(segments, np.uint8), np.array(indices, np.uint8))
    with pytest.raises(ValueError, match=reason):
        rows.restore()


@pytest.mark.parametrize("activations", ["float32", "int8"])
@pytest.mark.parametrize(("layer", "shape"), LAYERS.values(), ids=LAYERS)
def test_layers(export: Any, layer: nn.Module, shape: tuple[int, ...], activations: str) -> None:
    report = export(lambda m, x: m.conv(x), shape, activations, conv=layer, zeros=0.9)
    assert report.weights[0].storage == "CSR"
    assert report.details.operators["DENSIFY"] == 1
    assert report.weights[0].size_bytes < 0.6 * layer.weight.numel()
    assert not any(check.differing for check in report.verdict.codes)


@pytest.mark.parametrize("activations", ["float32", "int8"])
def test_bytes_are_those_of_the_file(export: Any, activations: str) -> None:
    """What the report counts is what the file saves."""
    reports = [
        export(lambda m, x: m.conv(x), (16, 9, 7), activations, conv=nn.Conv2d(16, 64, 3), zeros=0.9, sparse=sparse)
        for sparse in ("off", "auto")
    ]
    dense, sparse = (report.weights[0].size_bytes for report in reports)
    assert dense == 64 * 16 * 9 + 4
    assert reports[0].size_bytes - reports[1].size_bytes == pytest.approx(dense - sparse, abs=100)


def test_a_weight_that_would_grow_stays(export: Any) -> None:
    report = export(
        lambda m, x: m.two(F.relu(m.one(x))),
        (3, 9, 7),
        one=nn.Conv2d(3, 16, 3),
        two=nn.Conv2d(16, 64, 3),
        zeros=0.8,
    )
    assert [weight.storage for weight in report.weights] == ["int8", "CSR"]


def test_a_dense_weight_stays(export: Any) -> None:
    report = export(lambda m, x: m.conv(x), (16, 9, 7), conv=nn.Conv2d(16, 64, 3), grid_limit=127)
    assert report.weights[0].sparsity < 0.4
    assert report.weights[0].storage == "int8"


def test_a_shift_keeps_zeros(export: Any) -> None:
    """SIGN, which gives the shift, would read nothing: XNNPACK takes over what is in front of it."""
    report = export(lambda m, x: m.conv(x), (16, 9, 7), conv=nn.Conv2d(16, 64, 3), grid="paper", zeros=0.9)
    assert (report.weights[0].storage, report.weights[0].lowering) == ("int8", "DEQUANTIZE for others")
    assert report.details.operators["SIGN"] == 1


def test_a_shift_would_be_lost(export: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a new LiteRT passes here, zeros need not be kept."""
    from export.parity.verdict import ParityError
    from export.tflite.builder import weight_writer as weights

    monkeypatch.setattr(weights, "is_read_by_layers", lambda weight: True)
    with pytest.raises(ParityError, match="output at xnnpack"):
        export(lambda m, x: m.conv(x), (16, 9, 7), conv=nn.Conv2d(16, 64, 3), grid="paper", zeros=0.9)


@pytest.mark.parametrize(("activations", "reader"), [("float32", "DEQUANTIZE for others"), ("int8", "FULLY_CONNECTED")])
def test_a_weight_that_others_read_keeps_zeros(export: Any, activations: str, reader: str) -> None:
    def forward(m: Any, x: Any) -> Any:
        return F.relu(m.fc(x)) @ m.fc.weight

    report = export(forward, (64,), activations, fc=nn.Linear(64, 64), zeros=0.9)
    assert (report.weights[0].storage, report.weights[0].lowering) == ("int8", reader)


def test_zeros_in_the_wrong_place_are_seen(export: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """What LiteRT's own kernels make of a sparse weight is compared, whatever else the file computes."""
    from export.parity.verdict import ParityError
    from export.tflite.run import BUILTIN
    from export.tflite.runner import LiteRtRunner

    def move(runner: LiteRtRunner, prepared: list[np.ndarray]) -> list[np.ndarray]:
        found = run(runner, prepared)
        return [np.roll(x, 1) if x.dtype == np.int8 and runner.kernels == BUILTIN else x for x in found]

    run = LiteRtRunner.run
    monkeypatch.setattr(LiteRtRunner, "run", move)
    with pytest.raises(ParityError, match=r"conv\.weight: LiteRT does not put its zeros back where they were"):
        export(lambda m, x: m.conv(x), (16, 9, 7), "int8", conv=nn.Conv2d(16, 64, 3), zeros=0.9)


def test_a_flattened_image(export: Any) -> None:
    report = export(
        lambda m, x: m.fc(F.relu(m.conv(x)).flatten(1)),
        (3, 9, 7),
        "int8",
        conv=nn.Conv2d(3, 5, 3),
        fc=nn.Linear(175, 20),
        zeros=0.9,
    )
    assert report.weights[1].storage == "CSR"


def test_a_zero_that_moves_is_seen(export: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from export.parity.verdict import ParityError
    from export.tflite.file import flatbuffer

    def spoil(tensor: np.ndarray) -> CompressedRows:
        rows = compress(tensor)
        row = int(np.argmax(np.diff(rows.segments.astype(int)) == 1))
        first = int(rows.segments[row])
        rows.indices[first] = (rows.indices[first] + 1) % tensor.shape[rows.order[-1]]
        return rows

    monkeypatch.setattr(flatbuffer, "compress", spoil)
    with pytest.raises(ParityError, match="its codes are not those that were exported"):
        export(lambda m, x: m.conv(x), (16, 9, 7), conv=nn.Conv2d(16, 64, 3), zeros=0.9)


def test_linear_layers_on_codes_keep_zeros(export: Any) -> None:
    """LiteRT fails to prepare a FULLY_CONNECTED on codes whose weight comes out of a DENSIFY."""
    layers = {"one": nn.Linear(128, 128), "two": nn.Linear(128, 128), "three": nn.Linear(128, 128)}
    forward = lambda m, x: m.three(F.relu(m.two(F.relu(m.one(x)))))  # noqa: E731
    report = export(forward, (128,), "int8", zeros=0.9, **layers)
    assert [weight.storage for weight in report.weights] == ["int8", "int8", "CSR"]
