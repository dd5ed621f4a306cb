"""This module defines once what an export can be asked for: flags, choices, bounds and help come from these fields.

Each backend adds its own in a subclass of `ExportRequest`, and takes them as keyword arguments of its public function.
Nothing here imports PyTorch: a command answers `--help` with it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Literal

from codeq.activations.methods import METHODS, Method
from codeq.toolkit.options import check_options, option
from export.errors import ExportError

if TYPE_CHECKING:
    from codeq.activations.encoding import ActivationEncoding
    from codeq.data.collect import CalibrationInputs
    from codeq.graph.inputs import Inputs

Activations = Literal["float32", "int8"]
ActivationsWord = Literal["float32", "float", "int8"]
"""As a user may write it, on the command line and in Python; `float` is `float32`."""
ACTIVATIONS: tuple[Activations, ...] = ("float32", "int8")
DEFAULT_CHECK = 64
CHECKED_VALUES = 2**19
"""A check takes inputs of so many values by default: 64 of 3 x 32 x 32, 3 of 3 x 224 x 224."""
GIVEN, FROM_CHECKPOINT, LEARNED = "given", "checkpoint", "learned"
"""Where grids come from: inputs that the caller gave, those in the checkpoint, or training."""
CALIBRATION_VALUES = 2**21
"""Calibration takes so many values of the checkpoint's inputs: all 128 of 3 x 64 x 64, 13 of 3 x 224 x 224."""


def default_check(values: int) -> int:
    """Say how many inputs of so many values each a check takes by default."""
    return max(1, min(DEFAULT_CHECK, CHECKED_VALUES // values))


def default_calibration(values: int) -> int:
    """Say how many of a checkpoint's inputs, of so many values each, calibration takes."""
    return max(1, CALIBRATION_VALUES // values)


def read_activations(word: str) -> str:
    """Take `float` for `float32`; any other word is what it is."""
    return "float32" if word == "float" else word


@dataclass(frozen=True, kw_only=True)
class Quantization:
    """Says how activations are quantized.

    Attributes:
        activations: "float32", or "float" for short, which it becomes; "int8" for integer kernels: 8-bit activations,
            int32 biases.
        ranges: How a range is chosen from what calibration gives.
        activations_except: Layers that stay float: names, globs, `re:` expressions or types such as `Linear`.
        calibration: Inputs whose activations give the ranges, or batches of them; None takes the example inputs.
        activation_encodings: Scales and zero points by tensor name, as training stored them, instead of calibration.
    """

    activations: ActivationsWord = option(
        "float32",
        "int8: integer kernels, 8-bit activations; float32, or float for short (default: int8 where training stored "
        "activation scales)",
        choices=ACTIVATIONS,
        parse=read_activations,
    )
    ranges: Method = option(
        "mse", "how activation ranges are chosen from calibration inputs (default: mse)", choices=METHODS
    )
    activations_except: tuple[str, ...] = option(
        (),
        "layers that stay float: name, glob, re:EXPRESSION or type; may be repeated",
        metavar="PATTERN",
        repeat=True,
    )
    calibration: "CalibrationInputs | None" = None
    activation_encodings: "Mapping[str, ActivationEncoding] | None" = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "activations", read_activations(self.activations))

    @property
    def source(self) -> str:
        """Say where the ranges come from, as reports say it."""
        return self.ranges if self.activation_encodings is None else "learned in training"

    def record(self, machine: Mapping[str, Any]) -> dict[str, Any]:
        """Say where the grids come from, as files record it: `GIVEN`, `FROM_CHECKPOINT` or `LEARNED`.

        Args:
            machine: What their last bits depend on, where they can be found again.
        """
        return {"source": GIVEN, "ranges": self.ranges} if self.activation_encodings is None else {"source": LEARNED}


class OfCheckpoint(Quantization):
    """Says the same of a checkpoint whose own inputs are the calibration, or whose training learned the grids."""

    def record(self, machine: Mapping[str, Any]) -> dict[str, Any]:
        about = super().record(machine)
        return about if about["source"] == LEARNED else about | {"source": FROM_CHECKPOINT, **machine}


@dataclass(frozen=True, kw_only=True)
class Recorded(Quantization):
    """Says it of a file that is written anew with the grids it has; `recorded` is what it says of them."""

    recorded: Mapping[str, Any]

    def record(self, machine: Mapping[str, Any]) -> dict[str, Any]:
        return dict(self.recorded)


@dataclass(frozen=True, kw_only=True)
class ExportRequest:
    """Says what every backend takes.

    Attributes:
        quantization: How activations are quantized.
        force: Overwrite an existing file.
        check_inputs: Held inputs for the parity check; None takes the example inputs.
        preprocessing, labels, checkpoint_sha256: Recorded in the file: the first two as in `codeq.save`.
        accept_mismatch: Publish a file although parity does not hold, with the verdict in its metadata.
        keep_dead_channels: Leave channels in that no output depends on.
    """

    quantization: Quantization = Quantization()
    force: bool = False
    accept_mismatch: bool = option(
        False, "write the file although parity does not hold: with a warning, and the verdict in its metadata"
    )
    keep_dead_channels: bool = option(
        False, "leave channels in that no output depends on; they go by default, and what is computed stays"
    )
    check_inputs: "Inputs | None" = None
    preprocessing: Mapping[str, list[float]] | None = None
    labels: Sequence[str] = ()
    checkpoint_sha256: str | None = None

    @property
    def open_batch(self) -> bool:
        """Say whether the file leaves the batch size open."""
        return True

    @property
    def keep_state(self) -> bool:
        """Say whether buffers that one call leaves for the next become inputs and outputs of the file."""
        return False

    @property
    def quantize_outputs(self) -> bool:
        """Say whether what a layer gives that no integer layer reads, such as a network's output, is quantized too."""
        return False

    @property
    def batch_size(self) -> int | None:
        """Return the batch size of the file, where it is not open; None takes that of the example inputs."""
        return None

    @classmethod
    def own_fields(cls) -> dict[str, Any]:
        """Give the fields that a backend adds to this, with their defaults."""
        base = {item.name for item in fields(ExportRequest)}
        return {item.name: item.default for item in fields(cls) if item.name not in base}

    @property
    def options(self) -> dict[str, Any]:
        """Return what was asked for of these and is not the default, as files record it."""
        values = {name: (getattr(self, name), default) for name, default in self.own_fields().items()}
        return {name: value for name, (value, default) in values.items() if value != default}

    def check(self) -> None:
        """See that every value is one there is, and that no two contradict each other.

        Raises:
            ExportError: Naming the option, what was found, and the way out.
        """
        check_options(self, ExportError)
        check_options(self.quantization, ExportError)
