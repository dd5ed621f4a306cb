"""Codes are compared tensor by tensor: the integer reference is fed what the runtime computed, so no error adds up."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from export.parity.checks import CodesCheck

TIE_DISTANCE = 1e-2
"""In steps: float32 sums in another order stay well below it."""


@dataclass
class Count:
    """Holds codes that were compared, and those that were found different; see `CodesCheck`."""

    elements: int = 0
    differing: int = 0
    max_step: int = 0
    tie_distance: float = 0.0

    def add(self, other: "Count") -> None:
        """Count what another comparison found, too."""
        self.elements += other.elements
        self.differing += other.differing
        self.max_step = max(self.max_step, other.max_step)
        self.tie_distance = max(self.tie_distance, other.tie_distance)


@dataclass
class Substitute:
    """Counts where the reference's codes differ from a runtime's, and hands on the latter.

    `found` holds uint8 codes by the tensor's name, PyTorch's order of axes.
    """

    found: Mapping[str, np.ndarray]
    counts: dict[str, Count]

    def __call__(self, name: str, codes: Tensor, steps: Callable[[], Tensor]) -> Tensor:
        theirs = torch.from_numpy(self.found[name])
        if theirs.shape != codes.shape:
            self.counts[name] = Count(codes.numel(), codes.numel(), 255, 0.5)
            return codes
        self.counts[name] = Count(codes.numel())
        if not torch.equal(theirs, codes):
            off = (theirs.int() - codes.int()).abs()
            rounded = steps()[off > 0]
            distance = float((rounded - rounded.floor() - 0.5).abs().max())
            self.counts[name] = Count(codes.numel(), int(off.count_nonzero()), int(off.max()), distance)
        return theirs


def judge_codes(name: str, setting: str, kernel: str, count: Count, *, exact: bool, decides: bool = True) -> CodesCheck:
    """Judge one quantized tensor.

    Args:
        name, setting, kernel, exact, decides: As in `CodesCheck`.
        count: What was compared. Behind an exact kernel no code may differ; behind another one a code may be one step
            off if the value that was rounded lies within TIE_DISTANCE of the middle between two.
    """
    within = count.max_step <= 1 and count.tie_distance <= TIE_DISTANCE
    ok = not count.differing if exact else within
    return CodesCheck(
        name, setting, kernel, exact, count.elements, count.differing, count.max_step, count.tie_distance, ok, decides
    )
