"""Equal values keep their order where values are ordered: runtimes say so, and PyTorch leaves it open. Codes are often
equal.

    topk, sort, argsort  ->  a stable sort, of which topk takes the first k
"""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

aten = torch.ops.aten


def _topk(x: Tensor, count: int, axis: int = -1, largest: bool = True, ordered: bool = True) -> tuple[Tensor, Tensor]:
    values, places = _sort(x, axis, largest)
    return values.narrow(axis, 0, count), places.narrow(axis, 0, count)


def _sort(x: Tensor, axis: int = -1, descending: bool = False) -> tuple[Tensor, Tensor]:
    values, places = torch.sort(x, dim=axis, descending=descending, stable=True)
    return values, places


FIRST_OF_EQUAL: Mapping[Any, Callable[..., Any]] = {
    aten.argsort.default: lambda x, axis=-1, descending=False: _sort(x, axis, descending)[1],
    aten.sort.default: _sort,
    aten.topk.default: _topk,
}
"""What is computed instead, with the operator's own arguments."""
