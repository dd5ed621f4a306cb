"""How networks are called, and what their outputs are named."""

from collections import namedtuple
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from codeq.errors import TraceError
from codeq.graph.inputs import (
    argument_names,
    call,
    count_inputs,
    join_inputs,
    named_outputs,
    needed_names,
    slice_inputs,
    split_inputs,
)

pytestmark = pytest.mark.quick


class Encoder(nn.Module):
    def forward(self, ids: Tensor, mask: Tensor | None = None, *, scale: Tensor | None = None, **rest: Any) -> str:
        return f"{ids.shape} {mask is not None} {scale is not None}"


X = torch.zeros(3, 4)


def test_names_come_in_the_order_of_the_arguments() -> None:
    tensors, names = split_inputs(Encoder(), {"scale": X + 1, "mask": None, "ids": X})
    assert names == ("ids", "scale")
    assert [float(tensor.sum()) for tensor in tensors] == [0, 12]
    assert call(Encoder(), tensors, names) == "torch.Size([3, 4]) False True"
    assert list(join_inputs(tensors, names)) == ["ids", "scale"]


def test_which_arguments_there_are() -> None:
    assert argument_names(Encoder()) == ["ids", "mask", "scale"]
    assert needed_names(Encoder()) == ["ids"]


def test_some_of_a_batch_in_the_form_that_it_has() -> None:
    y = torch.arange(3)
    assert slice_inputs(X, slice(2)).shape == (2, 4)
    assert [len(tensor) for tensor in slice_inputs((X, y), slice(2))] == [2, 2]
    assert slice_inputs({"x": X, "y": y}, slice(1, None))["y"].tolist() == [1, 2]
    assert [count_inputs(inputs) for inputs in (X, (y, X), {"y": y})] == [3, 3, 3]


@pytest.mark.parametrize("inputs", [X, (X,), [X]], ids=["tensor", "tuple", "list"])
def test_inputs_by_position_have_no_names(inputs: Any) -> None:
    tensors, names = split_inputs(Encoder(), inputs)
    assert (len(tensors), names) == (1, ())
    assert call(Encoder(), tensors, names) == "torch.Size([3, 4]) False False"
    assert join_inputs(tensors, names) == (X,)


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({"ids": X, "rest": X}, "Encoder names no argument 'rest', expected ids, mask, scale"),
        ({"ids": 3}, "input 'ids' of Encoder is a int, expected a tensor"),
        ((X, [X]), "input 1 of Encoder is a list, expected a tensor"),
        (
            {"ids": X, "mask": X[:2]},
            r"input 'mask' of Encoder has shape \(2, 4\), expected the batch of 3 as its first",
        ),
        (torch.tensor(1.0), r"input 0 of Encoder has shape \(\), expected the batch as its first dimension"),
        ((), "Encoder is given no input, expected at least one tensor"),
        ({"ids": None}, "Encoder is given no input, expected at least one tensor"),
        ((X[:0], X[:0]), "Encoder is given a batch of no inputs, expected at least one input"),
    ],
)
def test_inputs_that_are_none(inputs: Any, message: str) -> None:
    with pytest.raises(TraceError, match=message):
        split_inputs(Encoder(), inputs)


@dataclass
class Answer:
    logits: Tensor
    hidden: tuple[Tensor, ...]
    loss: Tensor | None = None


Pair = namedtuple("Pair", ["mean", "deviation"])


@pytest.mark.parametrize(
    ("outputs", "names"),
    [
        (X, ["output"]),
        ((X,), ["output"]),
        ([X, None, X], ["output_0", "output_2"]),
        ({"logits": X, "loss": None}, ["logits"]),
        (Answer(X, (X, X)), ["logits", "hidden_0", "hidden_1"]),
        (Pair(X, {"of": X}), ["mean", "deviation_of"]),
        ((X, {"boxes": X}), ["output_0", "output_1_boxes"]),
        ({7: X, 8: X}, ["output_7", "output_8"]),
    ],
    ids=["tensor", "tuple", "none", "mapping", "dataclass", "named_tuple", "nest", "number_as_key"],
)
def test_outputs_are_named_as_the_network_names_them(outputs: Any, names: list[str]) -> None:
    assert list(named_outputs(Encoder(), outputs)) == names


@pytest.mark.parametrize(
    ("outputs", "message"),
    [
        ((X, 3), "output 1 of Encoder is 3, expected a tensor"),
        ({"logits": X, "label": "cat"}, "output 'label' of Encoder is 'cat', expected a tensor"),
        ({"a": (X,), "a_0": X}, "Encoder has two outputs named 'a_0'; rename one"),
        (None, "Encoder has no output that is a tensor"),
    ],
)
def test_outputs_without_a_name_of_their_own(outputs: Any, message: str) -> None:
    with pytest.raises(TraceError, match=message):
        named_outputs(Encoder(), outputs)
