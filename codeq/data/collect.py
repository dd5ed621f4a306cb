"""Collect what people calibrate with into the inputs of one call: tensors, arrays, data loaders, any batches.

    [(images, labels), (images, labels), ...] -> images        [{"ids": a}, {"ids": b}] -> {"ids": cat([a, b])}

A batch is a tensor, an array, a tuple or a list of them in the order of the network's arguments, or a mapping by their
names. A pair whose second is a one-dimensional tensor of integers, one for each input, is (inputs, labels) as data
loaders give them, and its labels are dropped; but not where the network is known to take two inputs. Where it is known
to take one, targets of any kind are dropped from what gives batches: numbers, masks, images. Of a mapping
`labels` are dropped, as the collators of Hugging Face's transformers name them, where the network is known not to take
them as an input.
"""

import logging
import math
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, IterableDataset

from codeq.errors import CalibrationError
from codeq.graph.inputs import Inputs

logger = logging.getLogger(__name__)

CalibrationInputs = Inputs | np.ndarray | Iterable[Any]
"""Inputs of one call, or something that gives batches of them, such as a DataLoader."""
MOST_INPUTS = 256
MOST_VALUES = 2**28
"""Taken of what gives batches where no count is said: a data loader may hold more than memory, or never end. Values are
those of all inputs: a gigabyte of float32."""
LABELS = ("labels", "label")
"""Names of what a network is trained on, in batches by name."""
DTYPES = (torch.float32, torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool)
"""What networks that can be exported take: they compute in float32."""

Call = dict[int | str, Tensor]
"""Tensors of one call by position or by name."""


def collect_calibration(
    inputs: CalibrationInputs,
    *,
    count: int | None = None,
    arity: int | None = None,
    names: Sequence[str] = (),
    source: str = "calibration",
) -> Inputs:
    """Make the inputs of one call from whatever holds inputs.

    Args:
        inputs: A tensor, an array, a tuple of them in the order of the network's arguments, a mapping by their names;
            or a DataLoader, a list or another iterable of such batches.
        count: Inputs to take, from the first on. None takes all; of an iterable as many as `default_count` says:
            shuffle what is sorted by class.
        arity: How many inputs the network takes, where that is known: then a pair is not taken for inputs and labels
            if it takes two, and always if it takes one and the second can be labels or targets.
        names: What the network takes, where that is known: `LABELS` that are not among them are left out of mappings.
        source: Where they are from, for messages.

    Returns:
        A tensor where batches hold one, a tuple where they hold several by position, else a dict; the tensors
        themselves where nothing needs to be joined, cut or converted.

    Raises:
        CalibrationError: No inputs; batches that differ in kind, shape or dtype; a dtype that no network takes; NaN, or
            infinite values where the network takes one input (beside others it may be a mask).

    Examples:
        >>> collect_calibration([(torch.zeros(2, 3), torch.tensor([0, 1])), (torch.ones(2, 3), torch.tensor([1, 0]))])
        tensor([[0., 0., 0.],
                [0., 0., 0.],
                [1., 1., 1.],
                [1., 1., 1.]])
    """
    if count is not None and count < 1:
        raise ValueError(f"count must be at least 1, found {count}")
    whole = is_one_batch(inputs)
    wanted = count
    collected: list[Call] = []
    size, are_targets = 0, False
    for number, batch in enumerate([inputs] if whole else iterate(inputs, source)):
        place = source if whole else f"{source}, batch {number}"
        targets = not whole and arity == 1 and _has_labels(batch, arity, any_kind=True)
        if not number and targets and not _has_labels(batch, arity):
            logger.info("%s: gives pairs; the network takes one input, so that the second is left out", source)
        are_targets = targets if not number else are_targets and targets
        drops = are_targets or ((not whole or arity == 1) and _has_labels(batch, arity))
        call = _read_batch(batch[0] if drops else batch, place, names)
        if collected:
            _check_like(call, collected[0], place)
        collected.append(call)
        if not whole and wanted is None:
            wanted = default_count(sum(math.prod(tensor.shape[1:]) for tensor in call.values()))
        size += len(next(iter(call.values())))
        if wanted is not None and size >= wanted:
            break
    if not size:
        used_up = "" if whole else "; a generator gives its batches only once"
        raise CalibrationError(f"{source} needs at least one input, found none{used_up}")
    if count is None and wanted is not None and size >= wanted:
        logger.info("%s: the first %d inputs are taken", source, wanted)
    joined = {key: _join([call[key] for call in collected], wanted) for key in collected[0]}
    return _as_given(joined, is_tuple=whole and isinstance(inputs, tuple))


def default_count(values: int) -> int:
    """Say how many inputs are taken of what may hold very many, from how many values one has."""
    return max(1, min(MOST_INPUTS, MOST_VALUES // max(1, values)))


def to_tensor(value: Any, place: str) -> Tensor:
    """Make a tensor of a tensor or an array, of a dtype that networks take and with a batch axis.

    Args:
        place: What it is, for messages.

    Raises:
        CalibrationError: It is neither, or has another dtype or no axis.
    """
    if not isinstance(value, Tensor | np.ndarray | np.generic):
        raise CalibrationError(f"{place} is a {type(value).__name__}, expected a tensor or an array, batch first")
    found = f"{place} is {value.dtype} {tuple(value.shape)}"
    known = str(value.dtype).removeprefix("torch.") in {str(dtype).removeprefix("torch.") for dtype in DTYPES}
    if not known:
        raise CalibrationError(f"{found}, which no network takes; convert floats to float32, token ids to int64")
    if value.ndim == 0:
        raise CalibrationError(f"{found}, expected a batch of inputs along the first axis")
    if isinstance(value, Tensor):
        if value.layout != torch.strided:
            raise CalibrationError(f"{place} is {value.layout}, expected a dense tensor")
        return value.detach() if value.requires_grad else value
    array = np.ascontiguousarray(value)
    return torch.from_numpy(array if array.flags.writeable else array.copy())


def check_values(tensor: Tensor, place: str, *, name: str = "", infinite: bool = False) -> None:
    """Refuse NaN, and infinite values unless they are allowed.

    Raises:
        CalibrationError: Naming the first input that has one.
    """
    if not tensor.is_floating_point() or not tensor.numel():
        return
    bad = tensor.isnan() if infinite else ~tensor.isfinite()
    if bool(bad.any()):
        first = int(bad.flatten(1).any(1).nonzero()[0]) if tensor.ndim > 1 else int(bad.nonzero()[0])
        of = f" of {name}" if name else ""
        raise CalibrationError(f"{place}: input {first}{of} has NaN{'' if infinite else ' or infinite'} values")


def is_one_batch(inputs: Any) -> bool:
    """Say whether inputs are those of one call, not something that gives batches."""
    if isinstance(inputs, tuple):
        return all(isinstance(item, Tensor | np.ndarray) for item in inputs)
    return isinstance(inputs, Tensor | np.ndarray | np.generic | Mapping)


def iterate(inputs: Any, source: str) -> Iterator[Any]:
    """Start to iterate over batches.

    Raises:
        CalibrationError: It cannot be iterated over, or its items are no batches.
    """
    if isinstance(inputs, str | bytes | os.PathLike):
        raise CalibrationError(
            f"{source} is the text {os.fspath(inputs)!r}, expected inputs; codeq.data.read_calibration reads files"
        )
    if isinstance(inputs, Dataset) and not isinstance(inputs, IterableDataset):
        raise CalibrationError(
            f"{source} is a {type(inputs).__name__}, whose items are no batches; "
            "give torch.utils.data.DataLoader(dataset, batch_size=32, shuffle=True)"
        )
    try:
        return iter(inputs)
    except TypeError as error:
        raise CalibrationError(
            f"{source} is a {type(inputs).__name__}, expected a tensor, an array, a tuple or a mapping of them, "
            "a DataLoader or another iterable of batches"
        ) from error


def _read_batch(batch: Any, place: str, names: Sequence[str]) -> Call:
    """Put a batch into the form of a call."""
    given: Mapping[Any, Any]
    if isinstance(batch, Mapping):
        given = {key: value for key, value in batch.items() if value is not None}
        if names:
            given = {key: value for key, value in given.items() if key in names or key not in LABELS}
    elif isinstance(batch, tuple | list):
        given = dict(enumerate(batch))
    else:
        given = {0: batch}
    if not given:
        raise CalibrationError(f"{place} is empty, expected at least one tensor")
    call = {key: to_tensor(value, _of(place, key, given)) for key, value in given.items()}
    rows = len(next(iter(call.values())))
    for key, tensor in call.items():
        if len(tensor) != rows:
            raise CalibrationError(
                f"{_of(place, key, given)} is {_describe(tensor)}, expected {rows} along the first axis, as the first"
            )
        check_values(tensor, place, name=_name(key, given), infinite=len(call) > 1)
    return call


def _has_labels(batch: Any, arity: int | None, *, any_kind: bool = False) -> bool:
    """Say whether the second of a pair is labels; with `any_kind` targets that are no integers are, one an input."""
    if arity == 2 or not isinstance(batch, tuple | list) or len(batch) != 2:
        return False
    inputs, labels = batch
    if isinstance(inputs, tuple | list):
        inputs = inputs[0] if inputs else None
    elif isinstance(inputs, Mapping):
        inputs = next((value for value in inputs.values() if value is not None), None)
    if not isinstance(inputs, Tensor | np.ndarray) or not isinstance(labels, Tensor | np.ndarray) or not inputs.ndim:
        return False
    is_integer = str(labels.dtype).removeprefix("torch.").startswith(("int", "uint"))
    return labels.ndim > 0 and len(labels) == len(inputs) and (any_kind or (labels.ndim == 1 and is_integer))


def _check_like(call: Call, first: Call, place: str) -> None:
    """Refuse a batch of another kind, shape or dtype than the first."""
    if set(call) != set(first):
        raise CalibrationError(f"{place} holds {_kind(call)}, batch 0 {_kind(first)}; give all in one form")
    for key, expected in first.items():
        found = call[key]
        if found.dtype != expected.dtype or found.shape[1:] != expected.shape[1:]:
            rest = "".join(f", {size}" for size in expected.shape[1:])
            raise CalibrationError(
                f"{_of(place, key, first)} is {_describe(found)}, expected {_dtype(expected)} (N{rest}) as in batch 0; "
                "resize or pad inputs alike, and give several inputs of one call as a tuple"
            )


def _join(tensors: list[Tensor], count: int | None) -> Tensor:
    joined = tensors[0] if len(tensors) == 1 else torch.cat(tensors)
    return joined if count is None or len(joined) <= count else joined[:count]


def _as_given(call: Call, *, is_tuple: bool) -> Inputs:
    if any(isinstance(key, str) for key in call):
        return {str(key): value for key, value in call.items()}
    tensors = tuple(call.values())
    return tensors if is_tuple or len(tensors) > 1 else tensors[0]


def _kind(call: Call) -> str:
    """Describe the kind of a batch, as `_check_like` compares it."""
    if any(isinstance(key, str) for key in call):
        return f"a mapping of {', '.join(map(str, call))}"
    return "a tensor" if len(call) == 1 else f"a tuple of {len(call)}"


def _name(key: Any, call: Mapping[Any, Any]) -> str:
    """Name an argument where there are several, or where it has a name."""
    return repr(key) if isinstance(key, str) else f"argument {key}" if len(call) > 1 else ""


def _of(place: str, key: Any, call: Mapping[Any, Any]) -> str:
    name = _name(key, call)
    return f"{place}: {name}" if name else place


def _describe(tensor: Tensor) -> str:
    return f"{_dtype(tensor)} {tuple(tensor.shape)}"


def _dtype(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")
