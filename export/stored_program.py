"""This module makes the quantized program of a file again, from its network and the grids in its metadata."""

from torch import nn

from codeq.graph.inputs import Inputs
from export.backend import StoredFile
from export.program.prepare import rebuild_program
from export.program.program import ReferenceProgram


def stored_program(stored: StoredFile, model: nn.Module, inputs: Inputs) -> ReferenceProgram | None:
    """Make the program that a file holds.

    Args:
        stored: The file.
        model: Its network.
        inputs: A few, to trace it with.

    Returns:
        With the file's grids; None where activations are float.

    Raises:
        ExportError: As for `prepare_again`.
    """
    metadata = stored.metadata
    if metadata.activations is None:
        return None
    return rebuild_program(
        model,
        inputs,
        metadata.activations,
        exclude=metadata.activations_except,
        too_wide=metadata.activations_too_wide,
        fixed_batch=stored.fixed_batch,
    )
