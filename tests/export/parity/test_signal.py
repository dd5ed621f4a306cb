"""Signal to noise of outputs, by hand, and what is said loudly."""

import numpy as np
import pytest

from codeq.quantizer.power import LIMIT_DB
from export.parity.signal import LayerSignal, OutputSignal, Signal, measure_signal

pytestmark = pytest.mark.quick

FLOATS = np.array([[3.0, 0.0], [0.0, 4.0], [9.0, 9.0]], np.float32)


def test_outputs_are_compared_on_the_inputs_that_were_given() -> None:
    found = np.array([[3.0, 0.5], [0.0, 4.0], [0.0, 9.0]], np.float32)
    layers = {"a": 30.0, "b": 12.0, "c": 50.0, "d": 31.0}
    signal = measure_signal(["y"], [FLOATS], [found], layers, 2)
    assert signal.outputs == (OutputSignal("y", pytest.approx(20.0), 0, 2),)
    assert signal.outputs[0].text == "y: 20.0 dB, argmax differs in 0 of 2"
    assert signal.worst_layers == (LayerSignal("b", 12.0), LayerSignal("a", 30.0), LayerSignal("d", 31.0))
    assert signal.warnings == ()
    assert measure_signal(["y"], [FLOATS], [found], {}, 3).outputs[0].argmax_differences == 1


def test_equal_infinities_are_no_noise_and_one_number_is_no_class() -> None:
    masked = np.array([[-np.inf], [1.0]], np.float32)
    (output,) = measure_signal(["y"], [masked], [masked.copy()], {}, 2).outputs
    assert output == OutputSignal("y", LIMIT_DB, 0, 0)
    assert output.text == "y: exact"


def test_integer_outputs_have_no_signal() -> None:
    ids = np.array([[1, 2]])
    assert measure_signal(["ids"], [ids], [ids], {}, 1).outputs == ()


def test_little_signal_and_other_classes_are_said_loudly() -> None:
    outputs = (OutputSignal("a", 9.9, 0, 10), OutputSignal("b", 30.0, 2, 10), OutputSignal("c", 10.0, 1, 10))
    noise, classes = Signal(outputs, (LayerSignal("layer.add", 3.0),)).warnings
    assert noise.startswith(
        "a: 8-bit activations leave it 9.9 dB of signal to noise, less than 10 dB; the worst layer is"
    )
    assert classes.startswith("b: another class in 2 of 10 with 8-bit activations; the worst layer is layer.add: ")


def test_another_number_of_outputs_is_not_compared() -> None:
    assert measure_signal(["y", "z"], [FLOATS], [FLOATS, FLOATS], {}, 2).outputs == ()
    assert measure_signal(["y"], [FLOATS, FLOATS], [FLOATS], {}, 2).outputs == ()
