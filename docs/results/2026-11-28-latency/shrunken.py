"""Build what is left of a network whose channels have died, to go on training it: `--model shrunken:build`."""

import torch
from torch import nn

import codeq


def build(checkpoint: str) -> nn.Module:
    """Load a checkpoint of `codeq.train --latency` and return the smaller plain network.

    Args:
        checkpoint: Of a network of the registry.
    """
    loaded = codeq.load(checkpoint)
    small, _ = codeq.shrink(loaded.model, torch.zeros(2, *loaded.input_shape))
    return small
