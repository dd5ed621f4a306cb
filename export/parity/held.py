"""Held inputs and what the network answers to them: what every file is compared with."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from codeq.graph.eval_mode import eval_mode
from codeq.graph.inputs import Inputs
from export.errors import ExportError
from export.parity.outputs import BATCH_SIZES, largest_difference, tolerance_of
from export.program.run import run_network, take_inputs

TORCH_BATCH_SIZE = 250


@dataclass(frozen=True, eq=False)
class Held:
    """Inputs of a check.

    Attributes:
        inputs: In the network's order, repeated to a whole number of every batch size: else "batch 3" would be judged
            at another size.
        names: Of the network's arguments, where they are given by name.
        count: Inputs before they were repeated.
        batch_sizes: To be judged at.
        expected: The network's outputs for them, in eval mode.
    """

    inputs: tuple[Tensor, ...]
    names: tuple[str, ...]
    count: int
    batch_sizes: tuple[int, ...]
    expected: list[np.ndarray]


def hold_inputs(model: nn.Module, inputs: Inputs, *, fixed_batch: int | None = None) -> Held:
    """Run a network on held inputs.

    Args:
        model: Run in eval mode, its modes left as they were.
        inputs: Batch first: one tensor, several in the order of the network's arguments, or by their names.
        fixed_batch: The one batch size that the file takes; None where it is open.

    Raises:
        ExportError: There are no inputs, the network does not take them, or its outputs have no batch dimension or
            depend on the batch.
    """
    tensors, names = take_inputs(model, inputs)
    held = tuple(tensor.detach() for tensor in tensors)
    count = len(held[0])
    if count == 0:
        raise ExportError("parity needs at least one input")
    batch_sizes = BATCH_SIZES if fixed_batch is None else (fixed_batch,)
    rows = torch.arange(max(batch_sizes) * -(-count // max(batch_sizes))) % count
    held = tuple(tensor[rows] for tensor in held)
    with eval_mode(model), torch.no_grad():
        expected = run_network(model, held, fixed_batch or TORCH_BATCH_SIZE, names)
        if fixed_batch is None:
            _check_batch_independence(model, held, names, expected)
    return Held(held, names, count, batch_sizes, expected)


def _check_batch_independence(
    model: nn.Module, inputs: tuple[Tensor, ...], names: tuple[str, ...], expected: list[np.ndarray]
) -> None:
    """Refuse a network whose answer for one input depends on the others: it cannot be held to any."""
    alone = run_network(model, tuple(tensor[:1] for tensor in inputs), 1, names)
    for index, (one, many) in enumerate(zip(alone, expected, strict=True)):
        error = largest_difference(many[: len(one)], one)
        if np.isfinite(error) and error > tolerance_of(many):
            raise ExportError(
                f"output {index} of {type(model).__name__} depends on the batch: alone, an input gives another answer "
                f"(by {error:.3g}); a file for single inputs cannot compute it"
            )
