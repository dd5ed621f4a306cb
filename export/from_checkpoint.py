"""This module reads from a checkpoint what an export needs: held inputs to check with, and how activations are
quantized.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from codeq.activations.calibrate import load_calibration
from codeq.checkpoint import Checkpoint
from export.errors import ExportError
from export.options import Quantization, default_calibration, default_check


def checked_inputs(loaded: Checkpoint, count: int | None) -> tuple[Tensor, str]:
    """Give the inputs to check with, and what the user should know of them.

    Args:
        loaded: The checkpoint.
        count: How many; None takes as many as is usual for their size.
    """
    return loaded.inputs_to_check(count or default_check(loaded.input_shape))


def choose_quantization(loaded: Checkpoint, asked: Mapping[str, Any], calibration: Path | None) -> Quantization:
    """Decide how the activations of a checkpoint are quantized.

    Args:
        loaded: The checkpoint, with scales that training learned, if it did.
        asked: Fields of `Quantization` that the user gave.
        calibration: A file of inputs; None takes those in the checkpoint.

    Raises:
        ExportError: Options that contradict each other, or no inputs to calibrate with.
    """
    recalibrate = calibration is not None or "ranges" in asked
    chosen = asked.get("activations") or ("float32" if loaded.activations is None and not recalibrate else "int8")
    if chosen == "float32":
        if recalibrate or asked.get("activations_except"):
            raise ExportError("--calibration, --ranges and --activations-except are for --activations int8")
        return Quantization()
    wishes = {name: value for name, value in asked.items() if name != "activations"}
    if loaded.activations is not None and not recalibrate:
        inputs = loaded.calibration_inputs
        return Quantization(activations="int8", activation_encodings=loaded.activations, calibration=inputs, **wishes)
    if calibration is not None:
        held = loaded.inputs_to_check(1)[0]
        inputs = load_calibration(calibration, loaded.input_shape, held.dtype)
        return Quantization(activations="int8", calibration=inputs, **wishes)
    inputs = loaded.calibration_inputs
    if inputs is None or not len(inputs):
        raise ExportError(f"{loaded.path}: holds no calibration inputs; give some with --calibration FILE.npz")
    kept = inputs[: default_calibration(loaded.input_shape)]
    return Quantization(activations="int8", calibration=kept, **wishes)
