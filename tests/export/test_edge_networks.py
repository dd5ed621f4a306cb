"""Networks that edge teams ship, in four modes, against PyTorch: files are opened by the runtimes alone, not by us."""

import inspect
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import codeq
from export import export_onnx, export_tflite
from tests.edge_networks import NETWORKS
from tests.stock_session import stock_session

DECIBELS = 15.0
"""Of int8 activations next to float ones, with random weights: a training would do better, a wrong kernel far worse."""
SHOWN = [("unet", "onnx", "int8"), ("mobilenet_v3", "tflite", "int8")]


@torch.no_grad()
def as_trained(name: str) -> tuple[nn.Module, tuple[Tensor, ...]]:
    """The network with statistics of its own inputs in its BatchNorms, 8-bit codes, frozen grids."""
    torch.manual_seed(0)
    network, inputs = NETWORKS[name]()
    network.train()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None  # the mean over the calls
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    for _ in range(2):
        network(*inputs)
    codeq.attach(network, 8)
    codeq.freeze(network)
    return network.eval(), inputs


def in_onnxruntime(path: Path, inputs: Sequence[Tensor]) -> np.ndarray:
    session = stock_session(path)
    names = [item.name for item in session.get_inputs()]
    return session.run(None, dict(zip(names, (x.numpy() for x in inputs), strict=True)))[0]


def in_litert(path: Path, inputs: Sequence[Tensor], names: Sequence[str]) -> np.ndarray:
    litert = pytest.importorskip("ai_edge_litert.interpreter", reason="LiteRT is an extra: pip install '.[tflite]'")
    interpreter = litert.Interpreter(str(path))
    places = interpreter.get_input_details()
    if len(places) > 1:  # by name, as PyTorch calls them
        places = sorted(places, key=lambda detail: names.index(detail["name"]))
    outputs = []
    interpreter.allocate_tensors()
    for row in range(len(inputs[0])):
        for detail, x in zip(places, inputs, strict=True):
            interpreter.set_tensor(detail["index"], x[row : row + 1].numpy().astype(detail["dtype"]))
        interpreter.invoke()
        outputs.append(interpreter.get_tensor(interpreter.get_output_details()[0]["index"]))
    return np.concatenate(outputs)


@pytest.mark.slow("a whole block of a network")
@pytest.mark.parametrize(
    ("name", "backend", "activations"),
    [
        pytest.param(*row, marks=[] if row in SHOWN else pytest.mark.full)
        for row in product(NETWORKS, ("onnx", "tflite"), ("float32", "int8"))
    ],
)
def test_a_file_computes_what_pytorch_does(name: str, backend: str, activations: Any, tmp_path: Path) -> None:
    network, inputs = as_trained(name)
    with torch.no_grad():
        expected = network(*inputs).numpy()
    path = tmp_path / f"net.{backend}"
    export = export_onnx if backend == "onnx" else export_tflite
    export(network, inputs, path, activations=activations, calibration=inputs if activations == "int8" else None)
    names = [*inspect.signature(network.forward).parameters]
    found = in_onnxruntime(path, inputs) if backend == "onnx" else in_litert(path, inputs, names)
    if backend == "tflite" and found.shape != expected.shape:
        found = np.moveaxis(found, -1, 1)  # images are channels last in LiteRT
    if activations == "float32":
        assert np.abs(found - expected).max() <= 1e-4 * np.abs(expected).max()
    else:
        noise = np.square(found - expected).mean() / np.square(expected - expected.mean(0)).mean()
        assert -10 * np.log10(noise) > DECIBELS
