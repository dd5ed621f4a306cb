"""Count the multiply-adds of each weight in one call of a network, whichever way the network calls its layers.

    self.conv(x)                                            a layer
    F.conv2d(x, self.conv.weight, self.conv.bias)           its weight alone, as in blocks that are merged for inference
    F.conv2d(x, self.wide.weight + F.pad(self.narrow.weight, (1, 1, 1, 1)))   a kernel made of several: counts for the
                                                            largest of them

A `TorchFunctionMode` sees every function of torch that the network calls, those in its layers included.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

LAYERS = frozenset({torch.conv1d, torch.conv2d, torch.conv3d, F.linear})
TRANSPOSED = frozenset({torch.conv_transpose1d, torch.conv_transpose2d, torch.conv_transpose3d})
PRODUCTS = frozenset(
    {torch.matmul, torch.mm, torch.bmm, Tensor.matmul, Tensor.mm, Tensor.bmm, Tensor.__matmul__, Tensor.__rmatmul__}
)


class WeightUse(TorchFunctionMode):
    """Counts, while it is on, into `macs`: weight name to multiply-adds; a weight that is used twice counts twice."""

    def __init__(self, weights: Mapping[str, Tensor], others: Iterable[Tensor]) -> None:
        """Start with no uses.

        Args:
            weights: What is counted, by name.
            others: Further tensors that no input goes into, such as the statistics of a BatchNorm.
        """
        super().__init__()
        self.macs: dict[str, int] = {}
        self.sizes = {name: weight.numel() for name, weight in weights.items()}
        # By identity, with the tensor itself: an identity is given away again once its owner is gone.
        self.made_of: dict[int, tuple[Tensor, frozenset[str]]] = {}
        for other in others:
            self.note(other, ())
        for name, weight in weights.items():
            self.note(weight, (name,))

    def note(self, tensor: Tensor, names: Iterable[str]) -> None:
        """Let a tensor be known as made of weights."""
        self.made_of[id(tensor)] = tensor, frozenset(names)

    def add(self, name: str, macs: int) -> None:
        """Count a use of a weight."""
        self.macs[name] = self.macs.get(name, 0) + macs

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        if not self._count(func, args, kwargs, result):
            operands = [operand for operand in tree_leaves((args, kwargs)) if isinstance(operand, Tensor)]
            if operands and all(id(operand) in self.made_of for operand in operands):
                names = frozenset[str]().union(*map(self._weights, operands))
                for part in tree_leaves(result):
                    if isinstance(part, Tensor):
                        self.note(part, names)
        return result

    def _count(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> bool:
        """Count a product of a weight with what is not made of weights."""
        if func in LAYERS or func in TRANSPOSED:
            x, weight = [*args[:2], *(kwargs[name] for name in ("input", "weight")[len(args) :])]
            macs = (x if func in TRANSPOSED else result).numel() * weight[0].numel()
        elif func in PRODUCTS:
            x, weight = [*args[:2], *(kwargs[name] for name in ("input", "other", "mat2") if name in kwargs)][:2]
            if self._weights(x):
                x, weight = weight, x
            macs = result.numel() * (args[0].shape[-1] if args else kwargs["input"].shape[-1])
        else:
            return False
        names = self._weights(weight)
        if not names or self._weights(x):
            return False
        largest = max(sorted(names), key=self.sizes.__getitem__)
        self.add(largest, macs)
        return True

    def _weights(self, tensor: Tensor) -> frozenset[str]:
        _, names = self.made_of.get(id(tensor), (tensor, frozenset()))
        return names
