"""Send a gradient past an operator that has none, such as rounding."""

from typing import Any

import torch
from torch import Tensor


class _StraightThrough(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, value: Tensor, surrogate: Tensor) -> Tensor:
        return value.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[None, Tensor]:
        return None, gradients[0]


def straight_through(value: Tensor, surrogate: Tensor) -> Tensor:
    """Return `value`, bit for bit; the gradient goes to `surrogate` unchanged, none to `value`.

    Args:
        value: What the forward pass gives, any shape.
        surrogate: What the backward pass goes through, with the shape of `value`.
    """
    result: Tensor = _StraightThrough.apply(value, surrogate)
    return result
