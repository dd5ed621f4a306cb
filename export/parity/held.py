"""Held inputs and the network's answers to them are what every file is compared with."""

from collections.abc import Sequence
from dataclasses import dataclass
from operator import attrgetter

import numpy as np
import torch
from torch import Tensor, nn

from codeq.graph.eval_mode import eval_mode
from codeq.graph.inputs import Inputs
from codeq.graph.kept_state import kept_state
from export.errors import ExportError
from export.parity.outputs import BATCH_SIZES, tolerance_of
from export.program.run import batches, run_network, take_inputs

TORCH_BATCH_SIZE = 250
SEQUENCE_CALLS = 6
"""Calls that a file with state is held for, at least: what one leaves shows in the next, and in those behind it."""
REPEATED = 0.75
"""What float inputs are multiplied by where a sequence repeats them: equal ones would not show state that is stale."""


@dataclass(frozen=True, eq=False)
class Held:
    """Inputs of a check.

    Attributes:
        inputs: In the network's order, repeated to a whole number of every batch size: else "batch 3" would be judged
            at another size.
        names: Of the network's arguments, where they are given by name.
        count: Inputs before they were repeated.
        batch_sizes: To be judged at.
        expected: The network's outputs for them, in eval mode; with state, behind them what each call leaves in it.
    """

    inputs: tuple[Tensor, ...]
    names: tuple[str, ...]
    count: int
    batch_sizes: tuple[int, ...]
    expected: list[np.ndarray]


def hold_inputs(model: nn.Module, inputs: Inputs, *, fixed_batch: int | None = None, state: Sequence[str] = ()) -> Held:
    """Run a network on held inputs.

    Args:
        model: Run in eval mode; its modes, buffers and attributes left as they were.
        inputs: Batch first: one tensor, several in the order of the network's arguments, or by their names.
        fixed_batch: The one batch size that the file takes; None where it is open.
        state: Buffers that one call leaves for the next. The batches are then a sequence of calls, from their values
            now on.

    Raises:
        ExportError: There are no inputs, the network does not take them, its outputs have no batch dimension or depend
            on the batch, or it answers differently on the same input.
    """
    tensors, names = take_inputs(model, inputs)
    held = tuple(tensor.detach() for tensor in tensors)
    count = len(held[0])
    batch_sizes = BATCH_SIZES if fixed_batch is None else (fixed_batch,)
    calls = max(-(-count // max(batch_sizes)), SEQUENCE_CALLS if state else 1)
    numbers = torch.arange(max(batch_sizes) * calls)
    held = tuple(tensor[numbers % count] for tensor in held)
    if state:
        held = tuple(_vary(tensor, numbers // count) for tensor in held)
    with eval_mode(model), torch.no_grad():
        first = _answer_twice(model, tuple(tensor[: fixed_batch or 1] for tensor in held), names, has_state=bool(state))
        with kept_state(model):
            if state:
                expected = _run_sequence(model, held, batch_sizes[0], names, state)
            else:
                expected = run_network(model, held, fixed_batch or TORCH_BATCH_SIZE, names)
        if fixed_batch is None:
            _check_batch_independence(model, first, expected)
    return Held(held, names, count, batch_sizes, expected)


def _vary(tensor: Tensor, repeats: Tensor) -> Tensor:
    if not tensor.is_floating_point():
        return tensor
    factors = REPEATED ** repeats.to(tensor.dtype)
    return tensor * factors.reshape(-1, *[1] * (tensor.ndim - 1))


def _run_sequence(
    model: nn.Module, inputs: tuple[Tensor, ...], size: int, names: tuple[str, ...], state: Sequence[str]
) -> list[np.ndarray]:
    """Compute outputs call by call, and behind them what each call leaves in the buffers, along their first axis."""
    calls = []
    for batch in batches(inputs, size):
        outputs = run_network(model, batch, size, names)
        left = [np.atleast_1d(attrgetter(name)(model).detach().numpy().copy()) for name in state]
        calls.append([*outputs, *left])
    return [np.concatenate(parts) for parts in zip(*calls, strict=True)]


def _answer_twice(
    model: nn.Module, batch: tuple[Tensor, ...], names: tuple[str, ...], *, has_state: bool
) -> list[np.ndarray]:
    """Compute one batch, and refuse a network that answers it differently when it is asked again."""
    with kept_state(model):
        first = run_network(model, batch, len(batch[0]), names)
        again = first if has_state else run_network(model, batch, len(batch[0]), names)
    if has_state:
        with kept_state(model):
            again = run_network(model, batch, len(batch[0]), names)
    for index, (one, other) in enumerate(zip(first, again, strict=True)):
        error = _difference(one, other)
        if error > tolerance_of(one):
            raise ExportError(
                f"output {index} of {type(model).__name__} answers differently on the same input (by {error:.3g}): in "
                "eval mode it must draw no random numbers, and keep what its next call reads in buffers "
                "(register_buffer), not in attributes; no file can be held to it"
            )
    return first


def _check_batch_independence(model: nn.Module, alone: list[np.ndarray], expected: list[np.ndarray]) -> None:
    """Refuse a network whose answer for one input depends on the others: it cannot be held to any."""
    for index, (one, many) in enumerate(zip(alone, expected, strict=True)):
        error = _difference(one, many[: len(one)])
        if error > tolerance_of(many):
            raise ExportError(
                f"output {index} of {type(model).__name__} depends on the batch: alone, an input gives another answer "
                f"(by {error:.3g}); a file for single inputs cannot compute it"
            )


def _difference(first: np.ndarray, second: np.ndarray) -> float:
    """The largest difference between finite elements."""
    with np.errstate(invalid="ignore"):  # infinities of one sign
        error = np.abs(first.astype(np.float64) - second.astype(np.float64))
    return float(error[np.isfinite(error)].max(initial=0))
