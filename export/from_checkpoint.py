"""This module reads from a checkpoint what an export needs: held inputs to check with, and how activations are
quantized.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from codeq.checkpoint import Checkpoint
from codeq.data.calibration import holds_images, read_calibration, read_named_calibration
from codeq.data.expected import ExpectedInput
from codeq.graph.inputs import Inputs, count_inputs, slice_inputs
from codeq.stored_inputs import StoredInputs
from export.errors import ExportError
from export.options import OfCheckpoint, Quantization, default_calibration, default_check

IMAGENET = "--mean 0.485,0.456,0.406 --std 0.229,0.224,0.225"


def checked_inputs(
    loaded: Checkpoint, count: int | None, given: Quantization | None = None
) -> tuple[StoredInputs, str]:
    """Give the inputs to check with, and what the user should know of them.

    Args:
        loaded: The checkpoint.
        count: How many; None takes as many as is usual for their size.
        given: With inputs of the user's, which are taken where the checkpoint holds none.
    """
    count = count or default_check(loaded.values_per_input)
    if given is not None and loaded.held_inputs is None and loaded.calibration_inputs is None:
        inputs: Any = given.calibration
        return slice_inputs(inputs, slice(count)), "the checkpoint holds no inputs: those of --calibration were used"
    return loaded.inputs_to_check(count)


def choose_quantization(
    loaded: Checkpoint,
    asked: Mapping[str, Any],
    calibration: str | Path | None,
    *,
    mean: list[float] | None = None,
    std: list[float] | None = None,
) -> Quantization:
    """Decide how the activations of a checkpoint are quantized.

    Args:
        loaded: The checkpoint, with scales that training learned, if it did.
        asked: Fields of `Quantization` that the user gave.
        calibration: What `read_calibration` reads; None takes the inputs in the checkpoint.
        mean, std: Of the pixels of images, where the checkpoint stores none.

    Raises:
        ExportError: Options that contradict each other, or no inputs to calibrate with.
    """
    if calibration is None and (mean is not None or std is not None):
        raise ExportError("--mean and --std are for images in --calibration FOLDER")
    recalibrate = calibration is not None or "ranges" in asked
    chosen = asked.get("activations") or ("float32" if loaded.activations is None and not recalibrate else "int8")
    if chosen == "float32":
        if recalibrate or asked.get("activations_except"):
            raise ExportError("--calibration, --ranges and --activations-except are for --activations int8")
        return Quantization()
    wishes = {name: value for name, value in asked.items() if name != "activations"}
    if loaded.activations is not None and not recalibrate:
        inputs = loaded.calibration_inputs
        return OfCheckpoint(activations="int8", activation_encodings=loaded.activations, calibration=inputs, **wishes)
    if calibration is not None:
        given = _read(loaded, calibration, mean, std)
        return Quantization(activations="int8", calibration=given, **wishes)
    inputs = loaded.calibration_inputs
    if inputs is None or not count_inputs(inputs):
        raise ExportError(
            f"{loaded.path}: holds no calibration inputs; give some with --calibration, e.g. a folder of images"
        )
    kept = slice_inputs(inputs, slice(default_calibration(loaded.values_per_input)))
    return OfCheckpoint(activations="int8", calibration=kept, **wishes)


def _read(loaded: Checkpoint, source: str | Path, mean: list[float] | None, std: list[float] | None) -> Inputs:
    like = loaded.inputs_to_check(1)[0]
    if not isinstance(like, Tensor):
        if mean is not None or std is not None:
            raise ExportError(f"--mean and --std are for images, and the network takes {', '.join(like)}")
        expected = {name: ExpectedInput(tuple(tensor.shape[1:]), tensor.dtype) for name, tensor in like.items()}
        return read_named_calibration(source, expected)
    if holds_images(source):
        mean, std = _stored(loaded, "mean", mean), _stored(loaded, "std", std)
    elif mean is not None or std is not None:
        raise ExportError(f"--mean and --std are for images, and {source} is no folder of them; leave them out")
    return read_calibration(source, mean=mean, std=std, input_shape=tuple(like.shape[1:]), dtype=like.dtype)


def _stored(loaded: Checkpoint, name: str, given: list[float] | None) -> list[float]:
    """Give what the network's inputs were normalised by: the checkpoint knows, or else the user."""
    stored = loaded.preprocessing.get(name)
    if stored is None and given is None:
        raise ExportError(
            f"{loaded.path}: stores no {name} of pixels, which images are normalised by; give those of its training, "
            f"e.g. {IMAGENET}, or zeros and ones"
        )
    if stored is not None and given is not None and stored != given:
        raise ExportError(f"--{name} is {given}, but {loaded.path} was trained with {stored}; leave it out")
    return stored or given or []
