"""Call a network and name what it answers: tensors by position or by name in, tensors by name out."""

import inspect
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import fields, is_dataclass
from typing import Any, overload

from torch import Tensor, nn

from codeq.errors import TraceError

Inputs = Tensor | tuple[Tensor, ...] | Mapping[str, Tensor]
"""One tensor, several in the order of the network's arguments, or by the names of arguments: what torch.export takes as
`args` and as `kwargs`."""


def split_inputs(model: nn.Module, inputs: Inputs) -> tuple[tuple[Tensor, ...], tuple[str, ...]]:
    """Put the tensors of a call in the order of the network's arguments, with their names if they are given by name.

    Args:
        model: Its `forward` says which names there are; torch.export cannot trace others, which it takes as `**kwargs`.
        inputs: Entries of a mapping that are None count as not given.

    Raises:
        TraceError: No input, an empty batch, one that is no tensor or whose first dimension is not that of the first,
            or a name that the network does not have.
    """
    network = type(model).__name__
    given: dict[Any, Any] = {0: inputs} if isinstance(inputs, Tensor) else {}
    if isinstance(inputs, Mapping):
        arguments = argument_names(model)
        given = {name: value for name, value in inputs.items() if value is not None}
        unknown = [name for name in given if name not in arguments]
        if unknown:
            raise TraceError(f"{network} names no argument {unknown[0]!r}, expected {', '.join(arguments) or 'none'}")
        given = {name: given[name] for name in arguments if name in given}
    elif not given:
        given = dict(enumerate(inputs))
    if not given:
        raise TraceError(f"{network} is given no input, expected at least one tensor")
    batch = None
    for name, value in given.items():
        where = f"input {name!r} of {network}"
        if not isinstance(value, Tensor):
            raise TraceError(
                f"{where} is a {type(value).__name__}, expected a tensor; set other arguments in a module around it"
            )
        if value.ndim == 0 or (batch is not None and value.shape[0] != batch):
            raise TraceError(
                f"{where} has shape {tuple(value.shape)}, expected the batch"
                f"{'' if batch is None else f' of {batch}'} as its first dimension"
            )
        batch = value.shape[0]
    if batch == 0:
        raise TraceError(f"{network} is given a batch of no inputs, expected at least one input")
    return tuple(given.values()), tuple(given) if isinstance(inputs, Mapping) else ()


def argument_names(model: nn.Module) -> list[str]:
    """List the arguments that a network takes by name, in its order; those of `*args` and `**kwargs` have none."""
    return [item.name for item in _parameters(model)]


def needed_names(model: nn.Module) -> list[str]:
    """List the arguments that a network cannot be called without, in its order."""
    return [item.name for item in _parameters(model) if item.default is item.empty]


def _parameters(model: nn.Module) -> list[inspect.Parameter]:
    parameters = inspect.signature(model.forward).parameters.values()
    return [item for item in parameters if item.kind in (item.POSITIONAL_OR_KEYWORD, item.KEYWORD_ONLY)]


def count_inputs(inputs: Inputs) -> int:
    """Say how many inputs a batch holds: the first dimension of its tensors."""
    return len(next(iter(_tensors(inputs))))


@overload
def slice_inputs(inputs: Tensor, rows: slice) -> Tensor: ...
@overload
def slice_inputs(inputs: Mapping[str, Tensor], rows: slice) -> dict[str, Tensor]: ...
@overload
def slice_inputs(inputs: tuple[Tensor, ...], rows: slice) -> tuple[Tensor, ...]: ...
def slice_inputs(inputs: Inputs, rows: slice) -> Inputs:
    """Take some inputs of a batch, in the form that it has."""
    if isinstance(inputs, Tensor):
        return inputs[rows]
    if isinstance(inputs, Mapping):
        return {name: tensor[rows] for name, tensor in inputs.items()}
    return tuple(tensor[rows] for tensor in inputs)


def _tensors(inputs: Inputs) -> Iterable[Tensor]:
    return (inputs,) if isinstance(inputs, Tensor) else inputs.values() if isinstance(inputs, Mapping) else inputs


def join_inputs(tensors: tuple[Tensor, ...], names: tuple[str, ...]) -> Inputs:
    """Make the inputs of a call from tensors and names: the inverse of `split_inputs`."""
    return dict(zip(names, tensors, strict=True)) if names else tensors


def call(model: nn.Module, tensors: tuple[Tensor, ...], names: tuple[str, ...]) -> Any:
    """Call a network with the tensors and names of `split_inputs`, and return its answer."""
    return model(**dict(zip(names, tensors, strict=True))) if names else model(*tensors)


def named_outputs(model: nn.Module, outputs: Any) -> dict[str, Tensor]:
    """Flatten what a network answered; outputs that are None are left out.

    Names are those of a mapping's keys, a dataclass's fields or a named tuple's, joined by `_` where they nest and with
    numbers in plain sequences; one tensor alone is `output`, several are `output_0`, `output_1`, ...

    Raises:
        TraceError: An output that is no tensor, two of one name, or no output at all.

    Examples:
        >>> list(named_outputs(nn.Identity(), {"logits": Tensor(3), "hidden": (Tensor(2), None, Tensor(1))}))
        ['logits', 'hidden_0', 'hidden_2']
    """
    named: dict[str, Tensor] = {}
    for name, value in _leaves("", outputs):
        name = name or "output"
        if name[0].isdecimal():
            name = f"output_{name}"
        if not isinstance(value, Tensor):
            place = name.removeprefix("output_") if name.startswith("output_") else repr(name)
            raise TraceError(f"output {place} of {type(model).__name__} is {value!r}, expected a tensor")
        if name in named:
            raise TraceError(f"{type(model).__name__} has two outputs named {name!r}; rename one")
        named[name] = value
    if not named:
        raise TraceError(f"{type(model).__name__} has no output that is a tensor")
    if len(named) == 1 and next(iter(named)).removeprefix("output_").isdecimal():
        return {"output": named.popitem()[1]}  # a sequence of one
    return named


def _leaves(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    """Yield everything in a nest of containers that is no container, and not None."""
    children: Mapping[Any, Any]
    if isinstance(value, Mapping):  # Hugging Face's ModelOutput is one; its fields that are None are not in it
        children = value
    elif is_dataclass(value) and not isinstance(value, type):
        children = {field.name: getattr(value, field.name) for field in fields(value)}
    elif isinstance(value, tuple) and hasattr(value, "_fields"):
        children = dict(zip(value._fields, value, strict=True))
    elif isinstance(value, tuple | list):
        children = dict(enumerate(value))
    else:
        if value is not None:
            yield name, value
        return
    for key, child in children.items():
        yield from _leaves(f"{name}_{key}" if name else str(key), child)
