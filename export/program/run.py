"""Run a network in PyTorch and a file in onnxruntime on the same inputs, a batch at a time."""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import onnxruntime as ort
import torch
from torch import Tensor, nn

from codeq.errors import TraceError, first_line
from codeq.graph.inputs import Inputs, call, named_outputs, split_inputs
from export.errors import ExportError


def take_inputs(model: nn.Module, inputs: Inputs) -> tuple[tuple[Tensor, ...], tuple[str, ...]]:
    """`split_inputs`, whose TraceError becomes an ExportError."""
    try:
        return split_inputs(model, inputs)
    except TraceError as error:
        raise ExportError(str(error)) from error


def run_onnxruntime(session: ort.InferenceSession, inputs: Sequence[Tensor], batch_size: int) -> list[np.ndarray]:
    """All outputs for all inputs, fed `batch_size` at a time and concatenated."""
    names = [item.name for item in session.get_inputs()]
    chunks = [
        session.run(None, {name: x.contiguous().numpy() for name, x in zip(names, batch, strict=True)})
        for batch in batches(inputs, batch_size)
    ]
    return [np.concatenate(parts) for parts in zip(*chunks, strict=True)]


def run_network(
    model: nn.Module, inputs: Sequence[Tensor], batch_size: int, names: tuple[str, ...] = ()
) -> list[np.ndarray]:
    """All outputs of a network, likewise, flattened; in the mode it is in.

    Args:
        names: Of the arguments that the inputs are, where they are given by name.

    Raises:
        ExportError: It does not take these inputs, an output is no tensor, or its first dimension is not the batch.
    """
    chunks = []
    for batch in batches(inputs, batch_size):
        try:
            outputs = named_outputs(model, call(model, batch, names))
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
    """All outputs of a program, or of its integer reference, for many inputs, likewise."""
    chunks = [compute(*batch) for batch in batches(inputs, size)]
    return [torch.cat(parts).numpy() for parts in zip(*chunks, strict=True)]


def batches(inputs: Sequence[Tensor], size: int) -> Iterator[tuple[Tensor, ...]]:
    """Inputs, `size` at a time; the last batch may be smaller."""
    for start in range(0, inputs[0].shape[0], size):
        yield tuple(tensor[start : start + size] for tensor in inputs)
