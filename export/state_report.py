"""Say what one call of a file leaves for the next, as inspections do: each output that goes back as an input.

state     cache: feed cache_output back; 2x3x2 float32, at first 0
state     gain: feed gain_output back; 4 float32, at first 0.5 to 2
"""

import math
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from codeq.toolkit.table import fold_line
from export.metadata import StateMetadata


def state_lines(state: Sequence[StateMetadata]) -> list[str]:
    """Give a line for each tensor."""
    return [
        fold_line(
            f"state     {tensor.input}: feed {tensor.output} back; {'x'.join(map(str, tensor.shape)) or 'scalar'} "
            f"{tensor.dtype}, at first {_summarize(tensor.initial_value())}",
            10,
        )
        for tensor in state
    ]


def state_values(state: Sequence[StateMetadata]) -> list[dict[str, Any]]:
    """Give the same to machines, every number of a first value; JSON has no infinity: "inf", "-inf" and "nan"."""

    def plain(number: float) -> float | str:
        return number if math.isfinite(number) else str(number)

    values = []
    for tensor in state:
        initial = tensor.initial
        numbers = plain(initial) if isinstance(initial, int | float) else [plain(number) for number in initial]
        values.append(asdict(tensor) | {"initial": numbers})
    return values


def _summarize(value: np.ndarray) -> str:
    if not value.size:
        return "empty"
    low, high = value.min(), value.max()
    return f"{low:.6g}" if low == high else f"{low:.6g} to {high:.6g}"
