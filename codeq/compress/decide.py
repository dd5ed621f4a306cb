"""Decide one weight after the other: its bits, its zeros and its method, then its codes."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from codeq.compress.allocation import Allocation
from codeq.compress.choose import choose_codes
from codeq.compress.columns import FEW_INPUTS, Layer, whole
from codeq.compress.dead_channels import on_live_columns
from codeq.compress.folded import Folded
from codeq.compress.pick import pick
from codeq.compress.problem import LayerProblem
from codeq.compress.report import CompressedWeight
from codeq.quantizer.attach import QuantizedWeight

KEPT_BITS = 8
"""Of layers that are kept, and the bits at which plain rounding leaves nothing to gain."""


@dataclass(frozen=True)
class Kept:
    """Says which weights stay at 8 bits by themselves.

    Attributes:
        reading_inputs: Names of those that read an input of the network.
        given: Names of those whose bits the caller has chosen: these do not.
        none: Whether none does.
    """

    reading_inputs: Collection[str]
    given: Collection[str]
    none: bool = False

    def reason(self, name: str, columns: int | None) -> str:
        """Say why a weight stays; empty where it does not.

        Args:
            name: The weight's.
            columns: Values that each output of its layer reads; None where no layer reads the weight as it is.
        """
        if self.none or name in self.given:
            return ""
        if name in self.reading_inputs:
            return "it reads an input of the network"
        return f"its outputs read {columns} values each" if columns is not None and columns < FEW_INPUTS else ""


@dataclass(eq=False)
class Decisions:
    """Chooses the codes of the weights of a network, as the walk comes to them; `rows` says what was done.

    Attributes:
        weights: By name.
        method: For weights that have anything to gain by one.
        zeros: Share of zeros of every weight that is not kept.
        kept: Which weights stay at 8 bits whatever is asked.
        folded: Channels of the BatchNorm behind a layer, by name.
        allocation: Chooses bits and zeros instead, under a budget; None without one.
        seed: Of stochastic rounding.
        live: Of the weights that lose input channels, by name: which columns of their matrix live, bool `(columns,)`.
        rows: What was done, in the order in which it was.
    """

    weights: Mapping[str, QuantizedWeight]
    method: str
    zeros: float
    kept: Kept
    folded: Mapping[str, Folded]
    allocation: Allocation | None
    seed: int
    live: Mapping[str, Tensor] = field(default_factory=dict)
    rows: dict[str, CompressedWeight] = field(default_factory=dict)

    def __call__(
        self,
        name: str,
        layer: Layer | None,
        problems: Callable[[], list[LayerProblem]],
        largest: Callable[[], float] = lambda: 0.0,
    ) -> Tensor:
        """Decide a weight; see `codeq.compress.layer_by_layer.Decide`."""
        weight = self.weights[name]
        is_layer = layer is not None
        layer = layer or whole(weight.original, weight.quantizer.axis)
        matrix = layer.matrix(weight.original.detach())
        quantizer, zeros = weight.quantizer, self.zeros
        reason = self.kept.reason(name, matrix.shape[2] if is_layer else None)
        if self.allocation is not None:
            choice = self.allocation.choose(name)
            quantizer.bits, zeros = choice.bits, choice.zeros
        elif reason:
            quantizer.bits, zeros = KEPT_BITS, 0.0
        width = quantizer.bit_width()
        chosen = "rounding" if width == KEPT_BITS and not zeros else self.method
        live = self.live.get(name) if is_layer else None
        found = problems() if is_layer and (chosen != "rounding" or live is not None) else []
        if live is not None:
            found = [on_live_columns(problem, live) for problem in found]
        if not found:
            chosen = "rounding"
            found = [LayerProblem(part, torch.empty(0)) for part in matrix]
        picked = pick(chosen, (len(found), *found[0].weight.shape), bits=width, zeros=zeros, seed=self.seed)
        if picked.bits != width:
            quantizer.bits = picked.bits
        least = self.folded[name].least_scale(largest()) if is_layer and name in self.folded else None
        values = choose_codes(
            weight,
            layer,
            found,
            picked.method,
            zeros=picked.zeros,
            least_scale=least,
            reference=picked.reference,
        )
        if live is not None:
            values = torch.zeros_like(matrix).masked_scatter(live.expand_as(matrix), values)
        value = layer.restore(values, tuple(weight.original.shape))
        self.rows[name] = CompressedWeight(
            weight.name, tuple(value.shape), picked.index_bits, picked.name, reason, note=picked.note()
        )
        if self.allocation is not None:
            encoding = quantizer.encode(value)
            self.allocation.spend(name, picked.index_bits, encoding.sparsity, encoding.entropy_bits() / 8)
        return value
