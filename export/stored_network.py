"""This module gives the network that a file holds: the checkpoint's, or that without channels that were removed."""

from torch import nn

from codeq.channels.shrink import shrink
from codeq.graph.inputs import Inputs
from export.backend import StoredFile


def stored_network(stored: StoredFile, model: nn.Module, inputs: Inputs) -> nn.Module:
    """Give the network that a file was written of.

    Args:
        stored: The file.
        model: The network that it was made from; not changed.
        inputs: Some, batch first.

    Returns:
        `model` itself where nothing was removed, or another number of channels than this network can do without: the
        file is of another one then, and no check will hold.
    """
    removed = stored.metadata.removed_channels
    if not removed:
        return model
    small, report = shrink(model, inputs, fold_constants=stored.metadata.activations is None)
    return small if report.removed == removed else model
