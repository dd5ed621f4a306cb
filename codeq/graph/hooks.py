"""Keep hooks that only look at a network away from its tracing, where values are fake: shapes without numbers.

A hook that returns something, writes into what it is given, or gives its module another weight before forward (as
weight_norm does) is a part of what the network computes, and stays. One call with real values tells.
"""

from collections.abc import Callable, Iterator, MutableMapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules import module as global_hooks
from torch.utils._pytree import tree_leaves

from codeq.graph.kept_state import kept_state

Hooks = MutableMapping[int, Callable[..., Any]]


@contextmanager
def observers_off(model: nn.Module, call: Callable[[], Any]) -> Iterator[None]:
    """Take out the forward hooks, and those before forward, that change nothing; they come back afterwards.

    Args:
        model: With hooks on any of its modules, or global ones; without any, nothing is called.
        call: Calls the network on real values.
    """
    places: list[Hooks] = [global_hooks._global_forward_hooks, global_hooks._global_forward_pre_hooks]
    places += [module._forward_hooks for module in model.modules()]
    places += [module._forward_pre_hooks for module in model.modules()]
    before = [(place, dict(place)) for place in places if place]
    if not before:
        yield
        return
    watched = [_Watched(place, number, hook) for place, hooks in before for number, hook in hooks.items()]
    try:
        with torch.no_grad(), kept_state(model):
            call()
        for hook in watched:
            if hook.only_looks:
                del hook.place[hook.number]
            else:
                hook.place[hook.number] = hook.original
        yield
    finally:
        for place, hooks in before:
            place.clear()
            place.update(hooks)


class _Watched:
    """Stands for a hook and notes whether it changes anything."""

    def __init__(self, place: Hooks, number: int, original: Callable[..., Any]) -> None:
        self.place, self.number, self.original = place, number, original
        self.only_looks = True
        place[number] = self

    def __call__(self, module: nn.Module, *arguments: Any) -> Any:
        is_before = self.place is module._forward_pre_hooks
        tensors = [value for value in tree_leaves(arguments) if isinstance(value, Tensor)]
        versions, attributes = [tensor._version for tensor in tensors], _tensors_of(module)
        result = self.original(module, *arguments)
        changed = [tensor._version for tensor in tensors] != versions
        changed |= is_before and _tensors_of(module) != attributes
        self.only_looks &= result is None and not changed
        return result


def _tensors_of(module: nn.Module) -> dict[str, int]:
    """The tensors that a module computes with, by identity."""
    values = {**vars(module), **module._parameters, **module._buffers}
    return {name: id(value) for name, value in values.items() if isinstance(value, Tensor)}
