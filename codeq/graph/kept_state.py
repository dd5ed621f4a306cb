"""Run a network without changing what it keeps: buffers and attributes that `forward` writes."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


@contextmanager
def kept_state(model: nn.Module) -> Iterator[None]:
    """Give every module its buffers and attributes back as they were, after an error as well.

    Values of tensors come back in place, so that whoever holds them sees no change. Parameters, the network's modes,
    and what attributes hold beyond tensors (the entries of a list) are not looked after.
    """
    kept = [_Kept(module) for module in model.modules()]
    try:
        yield
    finally:
        for module in kept:
            module.restore()


class _Kept:
    """Holds what one module keeps, with copies of its tensors."""

    def __init__(self, module: nn.Module) -> None:
        self.module = module
        self.attributes = {name: value for name, value in vars(module).items() if name != "training"}
        self.buffers = dict(module._buffers)
        tensors = [value for value in (*self.attributes.values(), *self.buffers.values()) if isinstance(value, Tensor)]
        self.values = [(tensor, tensor.detach().clone()) for tensor in tensors]

    @torch.no_grad()
    def restore(self) -> None:
        current = vars(self.module)
        for name in [name for name in current if name != "training" and name not in self.attributes]:
            del current[name]
        current.update(self.attributes)
        self.module._buffers.clear()
        self.module._buffers.update(self.buffers)
        for tensor, value in self.values:
            if not torch.equal(tensor, value):
                tensor.copy_(value)
