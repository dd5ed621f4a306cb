"""Whole programs: inputs and outputs in their order and on their grid, and what is said of where things lie."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from export.errors import DeclinedError
from export.tflite.lower import build_graph, describe_layout
from export.tflite.weights.form import WeightForms


def two() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 5, 1))


@pytest.mark.parametrize("channels_last", [False, True])
def test_axes_of_inputs_and_outputs(program: Any, channels_last: bool) -> None:
    build = build_graph(program(two(), (3, 6, 5)), channels_last_io=channels_last)
    shapes = [
        build.graph.tensors[number].shape for number in (*build.graph.inputs.values(), *build.graph.outputs.values())
    ]
    assert shapes == ([(1, 6, 5, 3), (1, 4, 3, 5)] if channels_last else [(1, 3, 6, 5), (1, 5, 4, 3)])
    codes = [operator.code for operator in build.graph.operators]
    assert codes.count("TRANSPOSE") == (0 if channels_last else 2)
    assert build.channels_last_io == channels_last


@pytest.mark.parametrize("codes", [False, True])
def test_codes_go_in_and_out(program: Any, codes: bool) -> None:
    build = build_graph(program(two(), (3, 6, 5), "int8"), codes_io=codes)
    ends = (*build.graph.inputs.values(), *build.graph.outputs.values())
    assert {build.graph.tensors[number].dtype == np.int8 for number in ends} == {codes}
    assert build.integer == {"0": "CONV_2D", "2": "CONV_2D"}
    assert {f"{name}_quantized" for name in build.codes} <= {tensor.name for tensor in build.graph.tensors}


def test_where_things_lie(program: Any) -> None:
    build = build_graph(program(two(), (3, 6, 5), "int8"), forms=WeightForms(sparse="off"))
    about = describe_layout(build)
    assert about["weights"]["0.weight"] == [(4, 3, 3, 3), (0, 2, 3, 1)]
    assert about["activations"] == build.codes
    assert {key: about[key] for key in ("channels_last_io", "codes_io", "sparse", "int4")} == {
        "channels_last_io": False,
        "codes_io": False,
        "sparse": "off",
        "int4": False,
    }


class Returned(nn.Module):
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x.relu(), x


class Whole(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return (x > 0).any(1).float()


REFUSED = {
    "an input that is returned": (Returned(), r"output .* is an input, a constant or another output"),
    "values of another type": (Whole(), r"any: it computes torch.bool, expected torch.float32"),
}


@pytest.mark.parametrize(("model", "reason"), REFUSED.values(), ids=REFUSED)
def test_refused(model: nn.Module, reason: str) -> None:
    from export.options import Quantization
    from export.program.prepare import prepare_program

    made = prepare_program(model, (torch.ones(2, 3),), Quantization()).program
    with pytest.raises(DeclinedError, match=reason):
        build_graph(made)
