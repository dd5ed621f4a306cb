"""What forward writes into its module is gone afterwards; the module's own tensors stay the same objects."""

import pytest
import torch
from torch import Tensor, nn

from codeq.graph.kept_state import kept_state

pytestmark = pytest.mark.quick


class Writes(nn.Module):
    calls: Tensor
    hidden: Tensor | None

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("calls", torch.zeros(()))
        self.register_buffer("hidden", None)
        self.count, self.plain = 0, torch.ones(1)

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        self.hidden = x
        self.count += 1
        self.plain.mul_(2)
        self.log = x.mean()
        return x


def test_buffers_and_attributes_come_back_after_an_error_as_well() -> None:
    model = nn.Sequential(Writes())
    inner = model[0]
    calls, plain = inner.calls, inner.plain

    def fail() -> None:
        with kept_state(model):
            model(torch.ones(1))
            assert inner.calls == inner.count == 1
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert inner.calls is calls
    assert inner.plain is plain
    assert (float(calls), float(plain), inner.count, inner.hidden) == (0, 1, 0, None)
    assert not hasattr(inner, "log")


def test_modes_are_left_alone() -> None:
    model = nn.Dropout().train()
    with kept_state(model):
        model.eval()
    assert not model.training
