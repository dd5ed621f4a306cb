"""Run a network, or its program, in PyTorch on many inputs, a batch at a time."""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from codeq.errors import TraceError, first_line
from codeq.graph.inputs import Inputs, call, named_outputs, split_inputs
from export.errors import ExportError


def take_inputs(model: nn.Module, inputs: Inputs) -> tuple[tuple[Tensor, ...], tuple[str, ...]]:
    """Call `split_inputs`, whose TraceError becomes an ExportError."""
    try:
        return split_inputs(model, inputs)
    except TraceError as error:
        raise ExportError(str(error)) from error


def run_network(
    model: nn.Module, inputs: Sequence[Tensor], batch_size: int, names: tuple[str, ...] = ()
) -> list[np.ndarray]:
    """Compute all outputs of a network for all inputs, flattened and concatenated; in the mode it is in.

    The network gets copies: it may write into its inputs.

    Args:
        names: Of the arguments that the inputs are, where they are given by name.

    Raises:
        ExportError: It does not take these inputs, an output is no tensor, or its first dimension is not the batch.
    """
    chunks = []
    for batch in batches(inputs, batch_size):
        try:
            outputs = named_outputs(model, call(model, tuple(tensor.clone() for tensor in batch), names))
        except TraceError as error:
            raise ExportError(str(error)) from error
        except (RuntimeError, TypeError, ValueError, IndexError) as error:
            shapes = ", ".join(f"{tensor.dtype} {tuple(tensor.shape)}" for tensor in batch)
            raise ExportError(
                f"{type(model).__name__} does not take inputs of {shapes}: {first_line(error)}"
            ) from error
        for index, leaf in enumerate(outputs.values()):
            if not leaf.ndim or leaf.shape[0] != batch[0].shape[0]:
                raise ExportError(
                    f"output {index} of {type(model).__name__} has shape {tuple(leaf.shape)} "
                    f"for a batch of {batch[0].shape[0]}; its first dimension must be the batch"
                )
        chunks.append([leaf.detach().numpy() for leaf in outputs.values()])
    return [np.concatenate(parts) for parts in zip(*chunks, strict=True)]


def in_batches(compute: Callable[..., tuple[Tensor, ...]], inputs: tuple[Tensor, ...], size: int) -> list[np.ndarray]:
    """Compute all outputs of a program, or of its integer reference, likewise."""
    chunks = [compute(*batch) for batch in batches(inputs, size)]
    return [torch.cat(parts).numpy() for parts in zip(*chunks, strict=True)]


def batches(inputs: Sequence[Tensor], size: int) -> Iterator[tuple[Tensor, ...]]:
    """Cut inputs into batches of `size`; the last one may be smaller."""
    for start in range(0, inputs[0].shape[0], size):
        yield tuple(tensor[start : start + size] for tensor in inputs)
