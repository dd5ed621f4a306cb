"""The straight-through estimator: the value of one tensor, the gradient of another."""

import torch

from codeq.quantizer.straight_through import straight_through


def test_straight_through_returns_its_value_and_passes_its_gradient() -> None:
    x = torch.tensor([0.3, 1.7], requires_grad=True)
    y = straight_through(x.round(), 3 * x)
    assert y.tolist() == [0.0, 2.0]
    y.sum().backward()
    assert x.grad is not None
    assert x.grad.tolist() == [3.0, 3.0]
