"""Every network of the registry at a size that a test can afford."""

import functools
from typing import Any

from torch import Tensor, nn

from runtime_tests.networks import zoo_network

INPUTS = 6
"""Held inputs, a whole number of each of the contract's batches; calibration takes the same."""
CONVOLUTIONAL = {"QLinearConv", "QLinearGlobalAveragePool", "QGemm"}
RESIDUAL = CONVOLUTIONAL | {"QLinearAdd"}
SMALL: dict[str, tuple[dict[str, Any], set[str]]] = {
    "resnet8": ({"input_size": 8}, RESIDUAL),
    "resnet18": ({"input_size": 32, "num_classes": 10, "width": 0.25}, RESIDUAL),
    "resnet20": ({"input_size": 8}, RESIDUAL),
    "resnet50": ({"input_size": 32, "num_classes": 10, "width": 0.25}, RESIDUAL),
    "mobilenet_v1": ({"input_size": 33}, CONVOLUTIONAL),
    "mobilenet_v2": ({"input_size": 32, "width": 0.35, "num_classes": 10}, RESIDUAL),
    "tiny_vit": ({"input_size": 8, "depth": 2}, {"float", "QLinearConv", "QGemm"}),
    "ds_cnn": ({}, {"QLinearConv", "QLinearAveragePool", "QGemm"}),
    "fcn_1d": ({"length": 32}, CONVOLUTIONAL),
    "gru": ({}, {"float", "QGemm"}),
    "autoencoder": ({}, {"QGemm"}),
}
"""Arguments that make a network quick to run, and the kernels that its layers become with int8 activations."""


@functools.lru_cache(maxsize=1)
def small(name: str) -> tuple[nn.Module, Tensor]:
    model, inputs = zoo_network(name, SMALL[name][0])
    return model, inputs[:INPUTS]
