"""Options that the commands of all backends share: how activations are quantized, how many inputs check a file."""

import argparse
import math
from pathlib import Path
from typing import Any

from codeq import checkpoint
from codeq.activations.calibrate import load_calibration
from codeq.activations.ranges import METHODS
from codeq.toolkit import cli
from export.errors import ExportError
from export.program.prepare import ACTIVATIONS

DEFAULT_CHECK = 64
CHECKED_VALUES = 2**19
"""Of inputs that a check takes by default: 64 of 3 x 32 x 32, 3 of 3 x 224 x 224."""
CALIBRATION_VALUES = 2**21
"""Of the checkpoint's inputs that calibration takes: all 128 of 3 x 64 x 64, 13 of 3 x 224 x 224."""


def default_check(input_shape: tuple[int, ...]) -> int:
    """How many inputs of a shape a check takes by default."""
    return max(1, min(DEFAULT_CHECK, CHECKED_VALUES // math.prod(input_shape)))


def add_check_option(parser: argparse.ArgumentParser) -> None:
    """`--check`."""
    parser.add_argument(
        "--check",
        type=cli.integer(1),
        metavar="N",
        help=f"held inputs to check parity on (default: {DEFAULT_CHECK}, fewer of large ones)",
    )


def add_activation_options(parser: argparse.ArgumentParser) -> None:
    """`--activations`, `--calibration`, `--ranges`, `--activations-except`."""
    parser.add_argument(
        "--activations",
        type=_activations,
        choices=ACTIVATIONS,
        help="int8: integer kernels, 8-bit activations; float32, or float for short (default: int8 where training "
        "stored activation scales)",
    )
    parser.add_argument(
        "--calibration",
        type=Path,
        metavar="FILE.npz",
        help="inputs for activation ranges: one array (N, ...), of float32 or of token ids (default: those in the "
        "checkpoint)",
    )
    parser.add_argument(
        "--ranges", choices=METHODS, help="how activation ranges are chosen from calibration inputs (default: mse)"
    )
    parser.add_argument(
        "--activations-except",
        action="append",
        default=[],
        metavar="PATTERN",
        help="layers that stay float: name, glob, re:EXPRESSION or type; may be repeated",
    )


def _activations(word: str) -> str:
    """`float` is another word for `float32`."""
    return "float32" if word == "float" else word


def activation_options(arguments: argparse.Namespace, loaded: checkpoint.Checkpoint) -> dict[str, Any]:
    """The arguments of an export about activations.

    Raises:
        ExportError: Options that contradict each other, or no inputs to calibrate with.
    """
    recalibrate = arguments.calibration is not None or arguments.ranges is not None
    chosen = arguments.activations or ("float32" if loaded.activations is None and not recalibrate else "int8")
    if chosen == "float32":
        if recalibrate or arguments.activations_except:
            raise ExportError("--calibration, --ranges and --activations-except are for --activations int8")
        return {}
    options = {
        "activations": "int8",
        "ranges": arguments.ranges or "mse",
        "activations_except": arguments.activations_except,
    }
    if loaded.activations is not None and not recalibrate:
        options |= {"activation_encodings": loaded.activations}
        return options | ({} if loaded.calibration_inputs is None else {"calibration": loaded.calibration_inputs})
    if arguments.calibration is not None:
        held = loaded.inputs_to_check(1)[0]
        return options | {"calibration": load_calibration(arguments.calibration, loaded.input_shape, held.dtype)}
    inputs = loaded.calibration_inputs
    if inputs is None or not len(inputs):
        raise ExportError(f"{loaded.path}: holds no calibration inputs; give some with --calibration FILE.npz")
    return options | {"calibration": inputs[: max(1, CALIBRATION_VALUES // math.prod(loaded.input_shape))]}
