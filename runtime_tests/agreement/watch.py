"""This comparison counts, input by input, where a runtime's codes differ from the integer reference's for the same
operands.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from export.errors import ExportError
from export.parity.codes import TIE_DISTANCE


@dataclass
class Watch:
    """Hands a reference the codes of a runtime, and counts per input where it would have computed others.

    Attributes:
        found: The codes by name.
        inputs: How many.
        differing: A count per input by name, in the order of execution.
        steps: The largest difference in codes, by the names where there is one.
        ties: Those names where every difference is of one step, from a value in the middle between two.
    """

    found: Mapping[str, np.ndarray]
    inputs: int
    differing: dict[str, np.ndarray] = field(default_factory=dict)
    steps: dict[str, int] = field(default_factory=dict)
    ties: set[str] = field(default_factory=set)

    def __call__(self, name: str, codes: Tensor, steps: Callable[[], Tensor]) -> Tensor:
        theirs = torch.from_numpy(self.found[name])
        if theirs.shape != codes.shape:
            raise ExportError(f"{name}: a runtime has codes of shape {tuple(theirs.shape)}, not {tuple(codes.shape)}")
        self.differing[name] = differing_per_input(self.found[name], codes.numpy(), self.inputs)
        if self.differing[name].any():
            off = (theirs.int() - codes.int()).abs()
            rounded = steps()[off > 0]
            self.steps[name] = int(off.max())
            if self.steps[name] == 1 and float((rounded - rounded.floor() - 0.5).abs().max()) <= TIE_DISTANCE:
                self.ties.add(name)
        return theirs


def differing_per_input(first: np.ndarray, second: np.ndarray, inputs: int) -> np.ndarray:
    """Count how many codes differ, per input: `(inputs,)`.

    The batch comes first, alone or with what was joined to it (batch x heads), or else on the first axis of that size.
    What has no batch counts for every input.
    """
    different = first != second
    if different.ndim and different.shape[0] % inputs and inputs in different.shape:
        different = np.moveaxis(different, different.shape.index(inputs), 0)
    if different.ndim and different.shape[0] % inputs == 0:
        return np.asarray(np.count_nonzero(different.reshape(inputs, -1), axis=1))
    return np.full(inputs, np.count_nonzero(different))
