"""A file in onnxruntime gives the network's answers, and its codes where they are looked at."""

from typing import Any

import numpy as np
import pytest
import torch

from export.errors import ExportError
from export.onnx.runner import OnnxruntimeRunner
from export.runner import run_batches

pytestmark = pytest.mark.quick


def test_it_computes_what_the_network_does(small_file: Any) -> None:
    path, network, inputs = small_file()
    runner = OnnxruntimeRunner(path, 1)
    assert runner.inputs == ()
    runner.open()
    (slot,) = runner.inputs
    assert (slot.shape, slot.dtype) == ((None, 4), np.dtype(np.float32))
    (found,) = run_batches(runner, (inputs,), 4)
    with torch.no_grad():
        np.testing.assert_allclose(found, network(inputs).numpy(), atol=1e-6)


def test_codes_come_behind_the_outputs(small_file: Any) -> None:
    path, _, inputs = small_file(activations="int8")
    runner = OnnxruntimeRunner(path, look_at=["input"])
    runner.open()
    outputs = run_batches(runner, (inputs,), 6)
    assert [values.dtype for values in outputs] == [np.float32, np.uint8]
    assert outputs[1].shape == (6, 4)


def test_a_tensor_that_is_not_there(small_file: Any) -> None:
    with pytest.raises(ExportError, match="has no tensor 'conv9_quantized'; was it changed after the export"):
        OnnxruntimeRunner(small_file(activations="int8")[0], look_at=["conv9"])


def test_what_onnxruntime_makes_of_it_is_noted_where_asked(small_file: Any) -> None:
    runner = OnnxruntimeRunner(small_file(activations="int8")[0], with_nodes=True)
    runner.open()
    assert runner.nodes["0"] == "QGemm"
