"""Write operators that are another spelling of others in the words that the lowerings know. Exact.

What rules look at is spelled out before (codeq/graph/canonical.py).

var(x, axes)       ->  sum((x - mean(x, axes)) ** 2, axes) / (count - correction); std is its root
glu, addcmul, addcdiv, logsumexp, vector norms, cosine_similarity, diff  ->  their formulas
normalize(x)       ->  x / sqrt(sum(x ** 2)): what PyTorch itself defines by others is taken apart
max_pool1d(x, ...) ->  squeeze(max_pool2d(unsqueeze(x, 2), ...)): a sequence is an image of one row
"""

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.export import ExportedProgram
from torch.fx import Node

from codeq.graph.nodes import insert_call, replace_node
from codeq.graph.spell import Words, spell_all

aten = torch.ops.aten


def spell_out(exported: ExportedProgram) -> int:
    """Rewrite what has a spelling in `WORDS` or `SPELLINGS`, in place; how many nodes there were."""
    spelled = spell_all(exported, WORDS)
    nodes = [node for node in exported.graph.nodes if node.target in SPELLINGS]
    for node in nodes:
        replace_node(exported, node, SPELLINGS[node.target](node))
    return spelled + len(nodes)


def _variance(x: Tensor, axes: Any, correction: float, keep: bool) -> tuple[Tensor, Tensor] | None:
    """Give variance and mean; None over the batch, or where nothing is left to divide by."""
    over = [axis % x.ndim for axis in ([axes] if isinstance(axes, int) else axes or range(x.ndim))]
    sizes = [x.shape[axis] for axis in over]
    if not all(isinstance(size, int) for size in sizes) or math.prod(sizes) <= correction:
        return None
    mean = x.mean(over, keepdim=True)
    squares = (x - mean).square().mean(over, keepdim=keep)
    factor = math.prod(sizes) / (math.prod(sizes) - correction)
    return squares if factor == 1 else squares * factor, mean if keep else x.mean(over)


def _of_variance(wanted: Callable[[Tensor, Tensor], Any]) -> Mapping[str, Words]:
    """Spell the overloads of one operator; `wanted` makes its result of variance and mean."""

    def corrected(x: Tensor, axes: Any = None, *, correction: float | None = None, keepdim: bool = False) -> Any:
        found = _variance(x, axes, 1 if correction is None else correction, keepdim)
        return None if found is None else wanted(*found)

    def unbiased(x: Tensor, axes: Any = None, unbiased: bool = True, keepdim: bool = False) -> Any:
        return corrected(x, axes, correction=int(unbiased), keepdim=keepdim)

    return {"correction": corrected, "dim": unbiased}


def _glu(x: Tensor, axis: int = -1) -> Tensor:
    values, gates = x.chunk(2, axis)
    return values * gates.sigmoid()


def _log_sum_exp(x: Tensor, axes: Any, keepdim: bool = False) -> Tensor:
    """Take the largest value out first, as PyTorch does: exponentials of large values are infinite."""
    largest = x.amax(axes, keepdim=True)
    total = (x - largest).exp().sum(axes, keepdim=keepdim).log()
    return total + (largest if keepdim else x.amax(axes))


def _length(x: Tensor, order: float = 2, axes: Any = None, keepdim: bool = False, **_: Any) -> Tensor | None:
    if order != 2 or axes is None:
        return None
    return (x * x).sum(axes, keepdim=keepdim).sqrt()


def _cosine(x: Tensor, y: Tensor, axis: int = 1, smallest: float = 1e-8) -> Tensor:
    """Divide each by its length first, as PyTorch does, which keeps lengths from below."""
    rank = max(x.ndim, y.ndim)
    wide = [value[(None,) * (rank - value.ndim)] for value in (x, y)]
    size = max(value.shape[axis] for value in wide)
    sizes = [size if place == axis % rank else -1 for place in range(rank)]
    wide = [value if value.shape[axis] == size else value.expand(sizes) for value in wide]
    one, other = (value / (value * value).sum(axis, keepdim=True).sqrt().clamp_min(smallest) for value in wide)
    return (one * other).sum(axis)


WORDS: Mapping[Any, Words] = {
    aten.cosine_similarity.default: _cosine,
    aten.diff.default: aten.diff.default.decompose,
    aten.addcdiv.default: lambda x, a, b, value=1: x + a / b if value == 1 else x + a / b * value,
    aten.addcmul.default: lambda x, a, b, value=1: x + a * b if value == 1 else x + a * b * value,
    aten.glu.default: _glu,
    aten.linalg_vector_norm.default: _length,
    aten.logsumexp.default: _log_sum_exp,
    **{
        getattr(getattr(aten, name), overload): words
        for name, wanted in {
            "var": lambda variance, mean: variance,
            "std": lambda variance, mean: variance.sqrt(),
            "var_mean": lambda variance, mean: (variance, mean),
            "std_mean": lambda variance, mean: (variance.sqrt(), mean),
        }.items()
        for overload, words in _of_variance(wanted).items()
    },
}
"""Spelled by a function of torch."""


def _pool_of_a_row(target: Any) -> Callable[[Node], Node]:
    """Make a spelling of a pool of one dimension; its numbers are those of the row, along which nothing is pooled."""

    def spell(node: Node) -> Node:
        x, *numbers = node.args
        image = insert_call(node, aten.unsqueeze.default, (x, 2))
        pooled = insert_call(node, target, (image, *map(_of_a_row(target), range(len(numbers)), numbers)))
        return insert_call(node, aten.squeeze.dim, (pooled, 2))

    return spell


def _of_a_row(target: Any) -> Callable[[int, Any], Any]:
    neutral = {
        aten.max_pool2d.default: (1, 1, 0, 1),
        aten.adaptive_avg_pool2d.default: (1,),
    }[target]

    def number(place: int, value: Any) -> Any:
        if place >= len(neutral):
            return value  # ceil_mode
        given = list(value) if isinstance(value, list | tuple) else [value]
        return [neutral[place], *given] if given else given

    return number


SPELLINGS: Mapping[Any, Callable[[Node], Node]] = {
    aten.max_pool1d.default: _pool_of_a_row(aten.max_pool2d.default),
    aten.adaptive_avg_pool1d.default: _pool_of_a_row(aten.adaptive_avg_pool2d.default),
}
