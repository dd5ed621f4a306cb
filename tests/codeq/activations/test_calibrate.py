"""Calibration: from inputs to grids, and what a calibration file may hold."""

import io
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from codeq.activations.calibrate import calibrate, load_calibration
from codeq.activations.encoding import ActivationEncoding
from codeq.activations.plan import plan_activations
from codeq.errors import CalibrationError
from codeq.graph.canonical import canonicalize
from codeq.graph.trace import trace

pytestmark = pytest.mark.quick


def network() -> nn.Module:
    model = nn.Sequential(nn.Conv2d(1, 2, 1), nn.ReLU(), nn.Conv2d(2, 1, 1))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(1.0)
    return model.eval()


def grids(inputs: torch.Tensor, **options: object) -> dict[str, ActivationEncoding]:
    exported = trace(network(), (torch.rand(2, 1, 4, 4),))
    canonicalize(exported)
    plan = plan_activations(exported, lambda node: "")
    return calibrate(exported, plan, (inputs,), **options)  # type: ignore[arg-type]


def test_min_max_of_every_tensor_by_hand() -> None:
    x = torch.linspace(-2, 2, 5 * 16).reshape(5, 1, 4, 4)
    found = grids(x, method="min-max")
    assert found == {
        "input": ActivationEncoding.from_range(-2, 2),
        "0": ActivationEncoding.from_range(0, 3),  # relu(x + 1)
        "2": ActivationEncoding.from_range(1, 7),  # 2 relu(x + 1) + 1
    }


def test_the_batch_size_does_not_matter(rng: torch.Generator) -> None:
    x = torch.randn(7, 1, 4, 4, generator=rng)
    assert grids(x, batch_size=1) == grids(x, batch_size=7)


def test_no_inputs() -> None:
    with pytest.raises(CalibrationError, match="calibration needs at least one input, found none"):
        grids(torch.zeros(0, 1, 4, 4))


def test_a_layer_that_gives_only_zeros_starts_at_zero_behind_a_relu() -> None:
    assert grids(torch.full((3, 1, 4, 4), -1.5))["0"] == ActivationEncoding.from_range(0, 1)


def test_a_file_of_inputs(tmp_path: Path, rng: torch.Generator) -> None:
    x = torch.randn(3, 1, 4, 4, generator=rng)
    np.savez(tmp_path / "inputs.npz", x.numpy())
    assert torch.equal(load_calibration(tmp_path / "inputs.npz", (1, 4, 4)), x)


def npz(**arrays: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


def npy(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


GOOD = np.ones((2, 1, 4, 4), np.float32)
NAN = np.where(np.arange(2).reshape(2, 1, 1, 1) == 1, np.float32(np.nan), GOOD)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (npz(x=GOOD[:, :, :3]), "'x' is float32 (2, 1, 3, 4), expected float32 (N, 1, 4, 4)"),
        (npz(x=GOOD[0]), "'x' is float32 (1, 4, 4), expected float32 (N, 1, 4, 4)"),
        (npz(x=np.float32(1)), "'x' is float32 (), expected"),
        (npz(x=GOOD.astype(np.uint8)), "'x' is uint8 (2, 1, 4, 4), expected float32"),
        (npz(x=GOOD[:0]), "'x' holds no inputs"),
        (npz(x=NAN), "input 1 of 'x' has NaN or infinite values"),
        (npz(x=GOOD, y=GOOD), "holds 2 arrays, expected one of inputs"),
        (npz(), "holds 0 arrays"),
        (npz(x=np.array([{}], object)), "is not an .npz file of plain arrays"),
        (npy(GOOD), "is not an .npz file of plain arrays"),
        (b"hello", "is not an .npz file of plain arrays"),
        (b"", "is not an .npz file of plain arrays"),
        (npz(x=GOOD)[:100], "is not an .npz file of plain arrays"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_files_that_are_no_inputs(content: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "inputs.npz"
    path.write_bytes(content)
    with pytest.raises(CalibrationError, match=re.escape(f"{path}: {message}")):
        load_calibration(path, (1, 4, 4))


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(CalibrationError, match="no such file"):
        load_calibration(tmp_path / "none.npz", (1, 4, 4))
