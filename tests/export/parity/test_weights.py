"""Weights are equal bit for bit, folded BatchNorms included, and both sides must name the same ones."""

import dataclasses

import numpy as np
import pytest
import torch
from torch import nn

import codeq
from codeq.quantizer.attach import quantized_weights
from export.metadata import WeightMetadata
from export.parity.weights import as_trained, check_weights, compare_weight, expected_weight, stored_shape

pytestmark = pytest.mark.quick

ABOUT = WeightMetadata("0.weight", "0.weight", None, 0, 4, 7, 1, 0, False, "")


@pytest.fixture
def network() -> nn.Module:
    """A convolution whose BatchNorm doubles its first channel and negates the second."""
    network = nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2, eps=0.0))
    network[1].weight.data = torch.tensor([2.0, -1.0])
    codeq.attach(network, 4)
    return network.eval()


def test_names_of_both_sides(network: nn.Module) -> None:
    other = dataclasses.replace(ABOUT, name="1.weight")
    assert [check.ok for check in check_weights(network, [ABOUT], lambda quantized, about: "")] == [True]
    failed = check_weights(network, [other], lambda quantized, about: "")
    assert [(check.name, check.ok, check.reason) for check in failed] == [
        ("0.weight", False, "the file has no such weight"),
        ("1.weight", False, "the network has no such quantized weight"),
    ]
    (judged,) = check_weights(network, [ABOUT], lambda quantized, about: f"{quantized.name} is off")
    assert (judged.ok, judged.reason) == (False, "0.weight is off")


def test_every_bit_counts_but_the_sign_of_zero() -> None:
    values = np.array([1.0, 0.0], np.float32)
    assert compare_weight(values, np.array([1.0, -0.0], np.float32)) == ""
    next_one = np.array([np.nextafter(np.float32(1), np.float32(2)), 0.0], np.float32)
    assert compare_weight(values, next_one) == "1 of 2 values differ from PyTorch's, by up to 1.19e-07"
    assert compare_weight(values, values[:1]) == "is float32 (1,), expected float32 (2,)"
    assert compare_weight(values, values.astype(np.float64)) == "is float64 (2,), expected float32 (2,)"


def test_a_folded_weight_is_codes_times_a_scale_of_the_channel(network: nn.Module) -> None:
    (quantized,) = quantized_weights(network)
    plain = expected_weight(network, quantized, ABOUT)
    folded = expected_weight(network, quantized, dataclasses.replace(ABOUT, batch_norm="1"))
    assert isinstance(plain, np.ndarray)
    np.testing.assert_array_equal(plain, network[0].weight.detach().numpy())  # type: ignore[index]
    np.testing.assert_array_equal(folded, plain * np.array([2, -1], np.float32).reshape(2, 1, 1, 1))


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"batch_norm": "7"}, "the file names the BatchNorm '7', which the network has not"),
        ({"batch_norm": "0"}, "the file names the BatchNorm '0', which the network has not"),
        ({"batch_norm": "1", "axis": 1}, "has no 2 channels on axis 1, as '1' does"),
        ({"batch_norm": "1", "axis": 9}, "has no 2 channels on axis 9, as '1' does"),
    ],
)
def test_a_file_that_could_not_be_right(network: nn.Module, values: dict[str, object], reason: str) -> None:
    (quantized,) = quantized_weights(network)
    assert expected_weight(network, quantized, dataclasses.replace(ABOUT, **values)) == reason  # type: ignore[arg-type]


def test_a_rearranged_kernel_is_compared_as_trained() -> None:
    """A 3x3 kernel padded to 4x4 has 4 times the channels on 2x2 positions."""
    about = dataclasses.replace(ABOUT, space_to_depth=(1, 0))
    assert stored_shape((2, 1, 3, 3), about) == (2, 4, 2, 2)
    assert stored_shape((2, 1, 3, 3), ABOUT) == (2, 1, 3, 3)
    zeros = np.zeros((2, 4, 2, 2), np.float32)
    assert as_trained(zeros, about, (2, 1, 3, 3)).shape == (2, 1, 3, 3)
    assert as_trained(zeros, ABOUT, (2, 1, 3, 3)) is zeros
    assert as_trained(zeros + 1, about, (2, 1, 3, 3)).shape == (2, 4, 2, 2)
