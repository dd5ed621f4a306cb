"""Check the inputs that a checkpoint holds: one tensor without a name, or several by the network's arguments.

| entry | one | several |
|---|---|---|
| `input_shape` | `[3, 32, 32]` | `{"input_ids": [16], "attention_mask": [16]}` |
| `calibration_inputs`, `held_inputs` | a tensor `(N, *shape)` | `{"input_ids": a tensor (N, 16), ...}` |

Several are stored with values: these say which dtype each argument takes.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from codeq.errors import CheckpointError
from codeq.graph.inputs import argument_names, needed_names

BATCHES = ("calibration_inputs", "held_inputs")
DTYPES = (torch.float32, torch.int64, torch.int32, torch.bool)
NAME = re.compile(r"[A-Za-z_]\w{0,99}", re.ASCII)
MOST_INPUTS = 256
"""Names of one network that are read: a file may list any number."""
LARGEST_SIZE = 2**24

Shapes = tuple[int, ...] | dict[str, tuple[int, ...]]
"""Of one input without its batch dimension; of several by name."""
StoredInputs = Tensor | dict[str, Tensor]


def check_stored_inputs(source: Path, payload: Mapping[str, Any]) -> None:
    """Check the entries of the table above.

    Args:
        source: The file, for messages.
        payload: What is in it; `input_shape` and the batches are of the types in the table.

    Raises:
        CheckpointError: Naming the entry, what was expected and what was found.
    """
    shape = payload["input_shape"]
    if not isinstance(shape, Mapping):
        if not shape or not _are_sizes(shape):
            raise CheckpointError(f"{source}: input_shape is {shape}, expected positive sizes")
        for key in BATCHES:
            if isinstance(payload[key], Mapping):
                raise CheckpointError(f"{source}: {key} are several by name, and input_shape is {shape}, of one")
            if payload[key] is not None:
                _check_batch(source, key, payload[key], shape)
        return
    _check_shapes(source, shape)
    found = {key: payload[key] for key in BATCHES if payload[key] is not None}
    for key, batch in found.items():
        _check_named(source, key, batch, shape)
    if not found:
        raise CheckpointError(
            f"{source}: holds no inputs for {', '.join(shape)}; several are stored with some calibration_inputs or "
            "held_inputs, which say their dtypes"
        )
    for name in shape:
        dtypes = {batch[name].dtype for batch in found.values()}
        if len(dtypes) > 1:
            both = " and ".join(sorted(_dtype(dtype) for dtype in dtypes))
            raise CheckpointError(f"{source}: {name} is {both} in calibration_inputs and held_inputs, expected one")


def check_arguments(source: Path, model: nn.Module, shape: Any) -> None:
    """See that the names of several inputs are the network's arguments.

    Raises:
        CheckpointError: It has no argument of a name, or needs one that is not there.
    """
    if not isinstance(shape, Mapping):
        return
    network, arguments = type(model).__name__, argument_names(model)
    unknown = next((name for name in shape if name not in arguments), None)
    missing = next((name for name in needed_names(model) if name not in shape), None)
    if unknown is not None or missing is not None:
        what = f"names no argument {unknown!r}" if unknown is not None else f"needs an input {missing!r}"
        raise CheckpointError(
            f"{source}: holds inputs {', '.join(shape)}, and {network} {what}, it takes "
            f"{', '.join(arguments) or 'arguments without names'}; was it built with another --model?"
        )


def in_order(model: nn.Module, values: Any) -> Any:
    """Bring what is stored by name into the order of the network's arguments; anything else stays as it is."""
    if not isinstance(values, Mapping):
        return values
    return {name: values[name] for name in argument_names(model) if name in values}


def _check_shapes(source: Path, shapes: Mapping[Any, Any]) -> None:
    if not 1 <= len(shapes) <= MOST_INPUTS:
        raise CheckpointError(f"{source}: input_shape names {len(shapes)} inputs, expected 1 to {MOST_INPUTS}")
    for name, shape in shapes.items():
        if not isinstance(name, str) or not NAME.fullmatch(name):
            raise CheckpointError(f"{source}: input_shape names {repr(name)[:60]}, expected names of arguments")
        if not isinstance(shape, list | tuple) or not _are_sizes(shape):
            raise CheckpointError(f"{source}: input_shape of {name} is {repr(shape)[:60]}, expected positive sizes")


def _check_named(source: Path, key: str, batch: Any, shapes: Mapping[str, Any]) -> None:
    if not isinstance(batch, Mapping):
        raise CheckpointError(
            f"{source}: {key} are a {type(batch).__name__}, expected a mapping of {', '.join(shapes)} to tensors"
        )
    if set(batch) != set(shapes):
        held = ", ".join(repr(name)[:60] for name in list(batch)[:MOST_INPUTS]) or "nothing"
        raise CheckpointError(f"{source}: {key} have {held}, expected {', '.join(shapes)}")
    count = None
    for name, shape in shapes.items():
        tensor = batch[name]
        if not isinstance(tensor, Tensor):
            raise CheckpointError(f"{source}: {key} have a {type(tensor).__name__} as {name}, expected a tensor")
        _check_batch(source, f"{key} of {name}", tensor, list(shape))
        count = len(tensor) if count is None else count
        if len(tensor) != count or not count:
            expected = f"{count} as of {next(iter(shapes))}" if count else "one at least"
            raise CheckpointError(f"{source}: {key} of {name} are {len(tensor)} inputs, expected {expected}")


def _check_batch(source: Path, key: str, batch: Tensor, shape: list[int]) -> None:
    if batch.layout != torch.strided or batch.device.type != "cpu":
        raise CheckpointError(f"{source}: {key} are {batch.layout} on {batch.device}, expected a dense CPU tensor")
    if batch.dtype not in DTYPES:
        raise CheckpointError(
            f"{source}: {key} are {batch.dtype}, expected torch.{', '.join(_dtype(dtype) for dtype in DTYPES[:-1])} "
            f"or {_dtype(DTYPES[-1])}"
        )
    if not batch.ndim or list(batch.shape[1:]) != shape:
        sizes = "".join(f", {size}" for size in shape)
        raise CheckpointError(f"{source}: {key} have shape {list(batch.shape)}, expected [N{sizes}]")


def _are_sizes(shape: Any) -> bool:
    return all(isinstance(size, int) and 1 <= size <= LARGEST_SIZE for size in shape)


def _dtype(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
