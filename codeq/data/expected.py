"""Hold calibration inputs to what a network takes, as far as that is known."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from codeq.errors import CalibrationError


@dataclass(frozen=True)
class ExpectedInput:
    """Says what one input of a network is.

    Attributes:
        shape: Without its batch dimension; None where it is not known.
        dtype: None where any will do.
    """

    shape: tuple[int, ...] | None = None
    dtype: torch.dtype | None = None

    def __str__(self) -> str:
        sizes = "..." if self.shape is None else ", ".join(map(str, self.shape))
        return f"{'an array' if self.dtype is None else _name(self.dtype)} (N, {sizes})"

    def check(self, place: str, value: Tensor | np.ndarray) -> None:
        """Hold inputs `(N, *shape)` to it.

        Args:
            place: What they are, for the message.

        Raises:
            CalibrationError: Of another shape or dtype.
        """
        if self.shape is None:
            return
        dtype, shape = _name(value.dtype), tuple(value.shape)
        wrong_dtype = self.dtype is not None and _name(self.dtype) != dtype
        if wrong_dtype or not shape or shape[1:] != self.shape:
            raise CalibrationError(f"{place} is {dtype} {shape}, expected {self}{self._way_out(dtype, shape[1:])}")

    def _way_out(self, dtype: str, shape: tuple[int, ...]) -> str:
        if len(shape) == 3 and shape != self.shape and (shape[2], *shape[:2]) == self.shape:
            return "; its channels are last: transpose(0, 3, 1, 2)"
        if self.dtype == torch.float32 and dtype == "uint8":
            return "; scale and normalise its pixels as in training"
        return "; convert it: astype('float32')" if (dtype, self.dtype) == ("float64", torch.float32) else ""


def _name(dtype: object) -> str:
    return str(dtype).removeprefix("torch.")
