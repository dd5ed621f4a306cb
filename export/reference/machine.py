"""The integer reference computes a program with quantized activations in PyTorch, in exact integer arithmetic.

What a runtime's integer kernels compute is a table of rules; export/reference/onnxruntime.py and xnnpack.py hold one
each. What has no integer kernel is computed in float32 between dequantized and quantized values.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from torch.fx import Node
from torch.fx.node import map_arg

from codeq.activations.encoding import QUANT_MAX
from codeq.activations.moves import is_move
from codeq.activations.rules import INTEGER
from codeq.graph.nodes import GraphRunner
from codeq.graph.operators import CLAMPS, PICKS
from export.program.names import scope_name
from export.program.program import ReferenceProgram
from export.reference.order import FIRST_OF_EQUAL

aten = torch.ops.aten
dequantize = torch.ops.codeq.dequantize.default
quantize = torch.ops.codeq.quantize.default


@dataclass(frozen=True, eq=False)
class Codes:
    """Holds a quantized tensor: `centered` is code - zero_point; real = scale * centered.

    Integers in a float32 tensor for activations, in their own dtype for weights and biases.
    """

    centered: Tensor
    scale: Tensor
    zero_point: float = 0.0
    axis: int | None = None

    @cached_property
    def reach(self) -> float:
        """Give a limit that no sum of a weight times inputs of 0 to 255 passes, its output channels first or second."""
        magnitudes = self.centered.abs()
        first = magnitudes.flatten(1).sum(1, dtype=torch.int64).max()
        second = magnitudes.transpose(0, 1).flatten(1).sum(1, dtype=torch.int64).max()
        return float(max(first, second)) * QUANT_MAX

    def real(self) -> Tensor:
        """Give the values, float32, as DequantizeLinear does."""
        return self.centered.float() * self.scale if self.axis is None else self.centered.float() * self._channels()

    def _channels(self) -> Tensor:
        shape = [1] * self.centered.ndim
        assert self.axis is not None
        shape[self.axis] = -1
        return self.scale.reshape(shape)


@dataclass(frozen=True, eq=False)
class Pending:
    """Holds what a kernel has computed before it knows the grid of its output.

    `steps(sy, zy)` gives it in steps of the output's grid, before rounding, without zero point unless `zero_inside`;
    `real()` gives floats.
    """

    steps: Callable[[Tensor, float], Tensor]
    real: Callable[[], Tensor]
    zero_inside: bool = False


Kernel = Callable[..., Pending]
"""Takes a node and its arguments, which are codes where the operator has activations, a weight or a bias."""


@dataclass(frozen=True, eq=False)
class Rules:
    """Says what the integer kernels of one runtime compute.

    Attributes:
        kernels: By operator, for operands that are all codes. A concatenation's is used where it requantizes.
        requantizes: Whether a concatenation of codes does; one that does not moves codes.
        clamps: Limits of the clamps that an operator applies itself, before its result is rounded.
        moves: Operators that move codes besides those of `is_move`.
    """

    kernels: Mapping[Any, Kernel]
    requantizes: Callable[[Node, Sequence[Codes]], bool]
    clamps: frozenset[tuple[float, float]] = frozenset()
    moves: frozenset[Any] = frozenset()


OnCodes = Callable[[str, Tensor, Callable[[], Tensor]], Tensor]


def _keep(name: str, codes: Tensor, steps: Callable[[], Tensor]) -> Tensor:
    return codes


class IntegerReference(GraphRunner):
    """Computes a program with quantized activations in integers, by the rules of one runtime's kernels."""

    def __init__(self, program: ReferenceProgram, rules: Rules) -> None:
        super().__init__(program.exported, keep_constants=True)
        self.on_codes: OnCodes = _keep
        self.rules = rules

    def outputs(self, *inputs: Tensor, on_codes: OnCodes = _keep) -> tuple[Tensor, ...]:
        """Compute the outputs, flattened; float32.

        Args:
            inputs: As for the network.
            on_codes: Sees every quantized tensor: its name, its uint8 codes, and a function that gives the values, in
                steps, that were rounded to them. Returns the codes that readers get.
        """
        self.on_codes = on_codes
        with torch.no_grad():
            return tuple(_real(value) for value in self.compute(inputs))

    def compute_node(self, n: Node) -> Any:
        if n.op != "call_function":
            return super().compute_node(n)
        arguments: Any = map_arg(n.args, lambda operand: self.env[operand])
        if n.target is dequantize:
            return _decode(*arguments)
        if n.target is quantize:
            return self._quantize(n, *arguments)
        kernel = self.rules.kernels.get(n.target)
        if kernel is not None and self._takes(n, arguments):
            return kernel(n, *arguments)
        if self._is_clamp(n) and isinstance(arguments[0], Pending):
            return _clamp(arguments[0], *CLAMPS[n.target](n))
        moves = n.target in self.rules.moves or is_move(n)
        if moves and any(isinstance(operand, Codes) for operand in _flat(arguments)):
            return _move(n, arguments)
        arguments = torch.utils._pytree.tree_map(_real, arguments)
        compute: Any = FIRST_OF_EQUAL.get(n.target, n.target)
        return compute(*arguments, **n.kwargs)

    def _quantize(self, node: Node, x: Any, scale: Tensor, zero_point: Tensor) -> Tensor:
        zero = float(zero_point)
        pending = x if isinstance(x, Pending) else Pending(lambda sy, zy: _real(x) / sy, lambda: _real(x))

        def steps() -> Tensor:
            return pending.steps(scale, zero)

        codes = steps().round_() if pending.zero_inside else steps().round_().add_(zero)
        return self.on_codes(scope_name(node), codes.clamp_(0, QUANT_MAX).to(torch.uint8), steps)

    def _takes(self, node: Node, arguments: Any) -> bool:
        """Tell whether a kernel computes these arguments, which must all be codes."""
        if node.target is aten.cat.default:
            parts = arguments[0]
            return all(isinstance(part, Codes) for part in parts) and self.rules.requantizes(node, parts)
        rule = INTEGER[node.target]
        positions = [*rule.activations, 1] if rule.has_weight else rule.activations
        wanted = all(isinstance(arguments[position], Codes) for position in positions)
        bias = arguments[2] if rule.has_weight and len(arguments) > 2 else None
        return wanted and (bias is None or isinstance(bias, Codes))

    def _is_clamp(self, node: Node) -> bool:
        return node.target in CLAMPS and CLAMPS[node.target](node) in self.rules.clamps


def _decode(codes: Tensor, scale: Tensor, shift: Tensor | None, axis: int, zero_point: Tensor | None = None) -> Any:
    if shift is not None:
        return dequantize(codes, scale, shift, axis)
    per_channel = axis if scale.ndim else None
    if codes.dtype != torch.uint8:
        return Codes(codes, scale, axis=per_channel)  # a weight or a bias, zero point 0
    zero = 0.0 if zero_point is None else float(zero_point)
    return Codes(codes.float() - zero, scale, zero, per_channel)


def share_grid(parts: Sequence[Codes]) -> bool:
    """Tell whether equal codes are equal values in all of several tensors."""
    first = parts[0]
    return all(torch.equal(part.scale, first.scale) and part.zero_point == first.zero_point for part in parts)


def _clamp(x: Pending, low: float, high: float) -> Pending:
    """Clamp a value before it is rounded: rounding is monotonic, so that its code is the clamp of its code."""

    def steps(sy: Tensor, zy: float) -> Tensor:
        offset = zy if x.zero_inside else 0.0
        return x.steps(sy, zy).clamp(low / float(sy) + offset, high / float(sy) + offset)

    return Pending(steps, lambda: x.real().clamp(low, high), zero_inside=x.zero_inside)


def _move(node: Node, arguments: Any) -> Any:
    """Apply an operator that moves values to codes. Zeros of a padding are zeros of the centered codes."""
    operands = _flat(arguments)[:1] if node.target in PICKS else _flat(arguments)
    sources = [operand for operand in operands if isinstance(operand, Codes)]
    first = sources[0]
    tensors = [operand for operand in operands if isinstance(operand, Codes | Pending | Tensor)]
    if len(sources) < len(tensors) or not share_grid(sources):
        return node.target(*torch.utils._pytree.tree_map(_real, arguments), **node.kwargs)  # type: ignore[operator]
    moved = node.target(  # type: ignore[operator]
        *torch.utils._pytree.tree_map(lambda a: a.centered if isinstance(a, Codes) else _real(a), arguments),
        **node.kwargs,
    )
    if isinstance(moved, Tensor):
        return Codes(moved, first.scale, first.zero_point)
    return tuple(Codes(part, first.scale, first.zero_point) for part in moved)


def _real(value: Any) -> Any:
    return value.real() if isinstance(value, Codes | Pending) else value


def _flat(arguments: Any) -> list[Any]:
    leaves: list[Any] = torch.utils._pytree.tree_leaves(arguments)
    return leaves
