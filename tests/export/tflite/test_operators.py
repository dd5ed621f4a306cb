"""Images that are flattened, and layers that are left out; tests/cases.py has every operator by itself."""

from typing import Any

import pytest
import torch.nn.functional as F
from torch import Tensor, nn

from tests.export.tflite.kernels import on_codes

IMAGE = (3, 9, 7)


@pytest.mark.parametrize("activations", ["float32", "int8"])
def test_a_flattened_image_is_not_transposed(export: Any, activations: str) -> None:
    """The linear layer's columns are put in the image's order; its codes are those of the checkpoint, moved."""
    report = export(
        lambda m, x: m.fc(F.relu(m.conv(x)).flatten(1)),
        IMAGE,
        activations,
        conv=nn.Conv2d(3, 5, 3),
        fc=nn.Linear(175, 4),
        layout="nhwc",
    )
    assert "TRANSPOSE" not in report.details.operators
    assert all(check.ok for check in report.verdict.weights)


def test_a_flattened_image_that_others_read_is(export: Any) -> None:
    def forward(m: Any, x: Tensor) -> Tensor:
        flat = m.conv(x).flatten(1)
        return m.fc(flat) + flat[:, :4]

    report = export(forward, IMAGE, conv=nn.Conv2d(3, 5, 3), fc=nn.Linear(175, 4), layout="nhwc")
    assert report.details.operators["TRANSPOSE"] == 1


def test_layers_that_are_left_out_stay_float(export: Any) -> None:
    report = export(
        lambda m, x: m.two(m.one(x)),
        IMAGE,
        "int8",
        one=nn.Conv2d(3, 4, 3),
        two=nn.Conv2d(4, 4, 3),
        exclude=("two",),
    )
    assert on_codes(report) == {"one": "CONV_2D"}
    assert {kernel.name: kernel.reason for kernel in report.kernels if not kernel.is_integer} == {"two": "excluded"}
