"""This table writes the largest, smallest and middle values along an axis in words that every format has. Exact.

x.max(1).values     ->  x.amax(1), through which codes pass; where the places are read too, it stays as it is
x.median(1).values  ->  the middle of x.sort(1); of two middles the lower
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from codeq.graph.spell import Words

aten = torch.ops.aten


def _median(x: Tensor, axis: int, keepdim: bool = False) -> tuple[Tensor, Tensor] | None:
    size = x.shape[axis]
    if not isinstance(size, int):
        return None
    values, places = (part.narrow(axis, (size - 1) // 2, 1) for part in x.sort(axis))
    return (values, places) if keepdim else (values.squeeze(axis), places.squeeze(axis))


MEDIANS: Mapping[Any, Words] = {aten.median.dim: _median}

EXTREMES_IN_OTHER_WORDS: Mapping[Any, Words] = {
    **MEDIANS,
    aten.max.dim: lambda x, axis, keepdim=False: (x.amax(axis, keepdim), None),
    aten.min.dim: lambda x, axis, keepdim=False: (x.amin(axis, keepdim), None),
}
