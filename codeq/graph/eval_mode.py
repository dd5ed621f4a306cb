"""Look at what a network computes without leaving a trace in it."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn


@contextmanager
def eval_mode(model: nn.Module) -> Iterator[None]:
    """Put a network in eval mode for a while; every module's own mode comes back, after an error as well.

    Modules may be switched within, such as BatchNorm to training mode. The fused path of torch's attention and encoder
    layers is off, so that they compute as in training: it puts zeros where inputs are padded, and calls no hooks.
    """
    modes = {module: module.training for module in model.modules()}
    fused = torch.backends.mha.get_fastpath_enabled()
    model.eval()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fused)
        for module, mode in modes.items():
            module.training = mode
