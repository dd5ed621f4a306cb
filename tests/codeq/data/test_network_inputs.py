"""Inputs get the names of a network's arguments, labels go, and what does not fit is one line."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from codeq.data.network_inputs import data_arguments, image_channels, known_arity, name_inputs
from codeq.errors import CalibrationError

pytestmark = pytest.mark.quick

X, Y, Z = torch.zeros(2, 3), torch.ones(2, 1), torch.arange(2)


class Classifier(nn.Module):
    def forward(self, ids: Tensor, mask: Tensor | None = None, labels: Tensor | None = None) -> Tensor:
        return ids


class Generator(nn.Module):
    """Draws what its labels say: it cannot do without."""

    def forward(self, noise: Tensor, labels: Tensor) -> Tensor:
        return noise


class Variadic(nn.Module):
    def forward(self, *tensors: Tensor) -> Tensor:
        return tensors[0]


def test_labels_are_inputs_where_a_network_needs_them() -> None:
    assert data_arguments(Classifier()) == ["ids", "mask"]
    assert data_arguments(Generator()) == ["noise", "labels"]
    assert (known_arity(Classifier()), known_arity(Generator()), known_arity(Variadic())) == (None, 2, None)


@pytest.mark.parametrize(
    ("model", "channels"),
    [
        (nn.Sequential(nn.Conv2d(1, 4, 3), nn.Conv2d(4, 3, 3)), 1),
        (nn.Sequential(nn.ReLU(), nn.Conv2d(3, 4, 3)), 3),
        (nn.Conv2d(4, 3, 3), None),
        (nn.Linear(3, 3), None),
    ],
)
def test_images_have_the_channels_of_the_first_convolution(model: nn.Module, channels: int | None) -> None:
    assert image_channels(model) == channels


@pytest.mark.parametrize(
    ("model", "given", "expected"),
    [
        (Classifier(), {"mask": Y, "labels": Z, "ids": X}, {"ids": X, "mask": Y}),
        (Classifier(), (X, Y), {"ids": X, "mask": Y}),
        (Classifier(), {"ids": X, "label": Z}, X),
        (Classifier(), (X,), X),
        (Classifier(), X, X),
        (Generator(), {"labels": Z, "noise": X}, {"noise": X, "labels": Z}),
        (Variadic(), X, X),
    ],
)
def test_what_inputs_become(model: nn.Module, given: Any, expected: Any) -> None:
    found = name_inputs(model, given, "source")
    if isinstance(expected, Tensor):
        assert found is expected
    else:
        assert isinstance(found, dict)
        assert list(found) == list(expected)
        assert all(found[name] is tensor for name, tensor in expected.items())


@pytest.mark.parametrize(
    ("model", "given", "message"),
    [
        (Classifier(), {"ids": X, "types": Y}, "gives 'types', which Classifier does not take, expected ids, mask, la"),
        (Classifier(), {"mask": Y}, "lacks ids, which Classifier needs; give an .npz file of arrays ids, or a func"),
        (Generator(), X, "lacks labels, which Generator needs; give an .npz file of arrays noise, labels, or a fun"),
        (Generator(), (X, Y, Z), "gives 3 inputs in a batch, and Generator takes noise, labels; name the arguments"),
        (Variadic(), (X, Y), "gives 2 inputs in a batch, and Variadic takes arguments without names; name the arg"),
        (Variadic(), {"x": X}, "gives 'x', which Variadic does not take, expected arguments without names"),
    ],
)
def test_what_does_not_fit(model: nn.Module, given: Any, message: str) -> None:
    with pytest.raises(CalibrationError) as caught:
        name_inputs(model, given, "inputs.npz")
    assert str(caught.value).startswith(f"inputs.npz: {message}")
    assert "\n" not in str(caught.value)
