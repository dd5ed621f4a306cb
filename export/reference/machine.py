"""The integer reference: a program with quantized activations, computed in PyTorch in exact integer arithmetic.

It follows the rules of onnxruntime's CPU kernels, in which every named product and quotient is rounded to float32 and
rint rounds half to even (measured; runtime_tests holds every rule against the kernel):

    QLinearConv, QGemm, QLinearMatMul   clip(rint(f32(sum + bias) * f32(f32(sx * sw) / sy)) + zy)
    QGemm with float output             f32(sum + bias) * f32(sx * sw)
    QLinearAdd                          ra = f32(sa / sy), rb = f32(sb / sy),
                                        c = f32(zy - fma(ra, za, f32(rb * zb))), clip(rint(fma(a, ra, fma(b, rb, c))))
    QLinearMul                          clip(rint(f32(f32(a * b * f32(f32(sa * sb) / sy)) + zy))), zero points taken off
    Q...AveragePool                     clip(rint(f32(sum) * f32(sx / f32(sy * n))) + zy); where the window is not the
                                        whole image the kernel sums floats, and is held to the bound of float kernels

Codes, biases and sums are integers. They are held in float32 where no sum can pass 2^24, else in float64: both are
exact. What has no integer kernel is computed in float32 between dequantized and quantized values.
"""

from collections.abc import Callable, Mapping
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
from export.program.program import LAYER_SCOPE, ReferenceProgram

aten = torch.ops.aten
dequantize = torch.ops.codeq.dequantize.default
quantize = torch.ops.codeq.quantize.default

FLOAT32_EXACT = 2**24
"""Every integer up to here is a float32."""


@dataclass(frozen=True, eq=False)
class Codes:
    """A quantized tensor: `centered` holds code - zero_point; real = scale * centered.

    Integers in a float32 tensor for activations, in their own dtype for weights and biases.
    """

    centered: Tensor
    scale: Tensor
    zero_point: float = 0.0
    axis: int | None = None

    @cached_property
    def reach(self) -> float:
        """Of a weight, output channels first or second: no sum over inputs of 0 to 255 passes it."""
        magnitudes = self.centered.abs()
        first = magnitudes.flatten(1).sum(1, dtype=torch.int64).max()
        second = magnitudes.transpose(0, 1).flatten(1).sum(1, dtype=torch.int64).max()
        return float(max(first, second)) * QUANT_MAX

    def real(self) -> Tensor:
        """float32, as DequantizeLinear gives it."""
        return self.centered.float() * self.scale if self.axis is None else self.centered.float() * self._channels()

    def _channels(self) -> Tensor:
        shape = [1] * self.centered.ndim
        assert self.axis is not None
        shape[self.axis] = -1
        return self.scale.reshape(shape)


@dataclass(frozen=True, eq=False)
class Pending:
    """What a kernel has computed before it knows its output.

    `steps(sy, zy)` gives it in steps of the output's grid, before rounding, without zero point unless `zero_inside`;
    `real()` gives floats.
    """

    steps: Callable[[Tensor, float], Tensor]
    real: Callable[[], Tensor]
    zero_inside: bool = False


OnCodes = Callable[[str, Tensor, Callable[[], Tensor]], Tensor]


def _keep(name: str, codes: Tensor, steps: Callable[[], Tensor]) -> Tensor:
    return codes


class IntegerReference(GraphRunner):
    """Computes a program with quantized activations in integers, by the rules of onnxruntime's kernels.

    `kernels` are those rules by operator; another runtime's replace some.
    """

    kernels: Mapping[Any, Callable[..., Pending]]

    def __init__(self, program: ReferenceProgram) -> None:
        super().__init__(program.exported, keep_constants=True)
        self.on_codes: OnCodes = _keep
        self.kernels = KERNELS

    def outputs(self, *inputs: Tensor, on_codes: OnCodes = _keep) -> tuple[Tensor, ...]:
        """The outputs, flattened; float32.

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
        kernel = self.kernels.get(n.target)
        if kernel is not None and _all_codes(n, arguments):
            return kernel(n, *arguments)
        if is_move(n) and any(isinstance(operand, Codes) for operand in _flat(arguments)):
            return move_codes(n, arguments)
        arguments = torch.utils._pytree.tree_map(_real, arguments)
        return n.target(*arguments, **n.kwargs)  # type: ignore[operator]

    def _quantize(self, node: Node, x: Any, scale: Tensor, zero_point: Tensor) -> Tensor:
        zero = float(zero_point)
        pending = x if isinstance(x, Pending) else Pending(lambda sy, zy: _real(x) / sy, lambda: _real(x))

        def steps() -> Tensor:
            return pending.steps(scale, zero)

        codes = steps().round_() if pending.zero_inside else steps().round_().add_(zero)
        name = node.meta["nn_module_stack"]["codeq"][0].removeprefix(LAYER_SCOPE)
        return self.on_codes(name, codes.clamp_(0, QUANT_MAX).to(torch.uint8), steps)


def _decode(codes: Tensor, scale: Tensor, shift: Tensor | None, axis: int, zero_point: Tensor | None = None) -> Any:
    if shift is not None:
        return dequantize(codes, scale, shift, axis)
    per_channel = axis if scale.ndim else None
    if codes.dtype != torch.uint8:
        return Codes(codes, scale, axis=per_channel)  # a weight or a bias, zero point 0
    zero = 0.0 if zero_point is None else float(zero_point)
    return Codes(codes.float() - zero, scale, zero, per_channel)


def move_codes(node: Node, arguments: Any) -> Any:
    """What an operator that moves values makes of codes. Zeros of a padding are zeros of the centered codes."""
    sources = [operand for operand in _flat(arguments) if isinstance(operand, Codes)]
    first = sources[0]
    tensors = [operand for operand in _flat(arguments) if isinstance(operand, Codes | Pending | Tensor)]
    if len(sources) < len(tensors) or any(
        not torch.equal(s.scale, first.scale) or s.zero_point != first.zero_point for s in sources
    ):
        return node.target(*torch.utils._pytree.tree_map(_real, arguments), **node.kwargs)  # type: ignore[operator]
    moved = node.target(  # type: ignore[operator]
        *torch.utils._pytree.tree_map(lambda a: a.centered if isinstance(a, Codes) else _real(a), arguments),
        **node.kwargs,
    )
    if isinstance(moved, Tensor):
        return Codes(moved, first.scale, first.zero_point)
    return tuple(Codes(part, first.scale, first.zero_point) for part in moved)


def _weighted(node: Node, x: Codes, weight: Codes, bias: Codes | None = None, *rest: Any) -> Pending:
    """A convolution or a linear layer: exact sums, then one rounding."""
    target: Any = node.target
    largest = 0.0 if bias is None else float(bias.centered.abs().max())
    wide = torch.float32 if weight.reach + largest < FLOAT32_EXACT else torch.float64
    sums = target(x.centered.to(wide), weight.centered.to(wide), None, *rest, **node.kwargs)
    channels = -1 if target is aten.linear.default else 1

    def along(values: Tensor) -> Tensor:
        shape = [1] * sums.ndim
        shape[channels] = -1
        return values.reshape(shape)

    if bias is not None:
        sums += along(bias.centered)
    return _scaled(sums.float(), along(x.scale * weight.scale))


def _product(node: Node, a: Codes, b: Codes) -> Pending:
    target: Any = node.target
    return _scaled(target(a.centered.double(), b.centered.double()).float(), a.scale * b.scale)


def _scaled(sums: Tensor, scale: Tensor) -> Pending:
    """f32(sums) * f32(scale / sy), or f32(sums) * scale where the output is float."""
    return Pending(lambda sy, zy: sums * (scale / sy), lambda: sums * scale)


def _add(node: Node, a: Codes, b: Codes) -> Pending:
    def steps(sy: Tensor, zy: float) -> Tensor:
        ra, rb = a.scale / sy, b.scale / sy
        # A product and a sum in float64, rounded once, is a fused multiply-add of these small integers.
        offset = zy - (a.zero_point * ra.double() + (b.zero_point * rb).double()).float()
        inner = ((b.centered + b.zero_point).double() * rb.double() + offset.double()).float()
        return ((a.centered + a.zero_point).double() * ra.double() + inner.double()).float()

    return Pending(steps, lambda: a.real() + b.real(), zero_inside=True)


def _mul(node: Node, a: Codes, b: Codes) -> Pending:
    product, scale = a.centered * b.centered, a.scale * b.scale
    return Pending(lambda sy, zy: product * (scale / sy) + zy, lambda: product * scale, zero_inside=True)


def _global_pool(node: Node, x: Codes, size: Any) -> Pending:
    height, width = x.centered.shape[-2] // size[0], x.centered.shape[-1] // size[1]
    return _average(aten.avg_pool2d(x.centered, [height, width], divisor_override=1), x, float(height * width))


def _average_pool(node: Node, x: Codes, kernel: Any, stride: Any = (), padding: Any = 0, *rest: Any) -> Pending:
    count_padding = rest[1] if len(rest) > 1 else True
    options = (kernel, stride or kernel, padding, False, True)
    sums = aten.avg_pool2d(x.centered, *options, 1)
    if count_padding:
        sizes = [kernel] * 2 if isinstance(kernel, int) else [*kernel] * (3 - len(kernel))
        return _average(sums, x, float(sizes[0] * sizes[1]))
    return _average(sums, x, aten.avg_pool2d(torch.ones_like(x.centered), *options, 1))


def _average(sums: Tensor, x: Codes, count: float | Tensor) -> Pending:
    return Pending(lambda sy, zy: sums * (x.scale / (sy * count)), lambda: sums * x.scale / count)


def _concatenate(node: Node, parts: list[Codes], axis: int = 0) -> Pending:
    """A part whose grid is the output's is copied, the others are requantized by a table of 256 values."""

    def steps(sy: Tensor, zy: float) -> Tensor:
        return torch.cat(
            [part.centered if bool(part.scale == sy) and part.zero_point == zy else part.real() / sy for part in parts],
            axis,
        )

    return Pending(steps, lambda: torch.cat([part.real() for part in parts], axis))


def _unary(node: Node, x: Codes, *rest: Any) -> Pending:
    """A look-up table in the kernel: each of 256 values computed in float."""
    target: Any = node.target
    return Pending(lambda sy, zy: target(x.real(), *rest) / sy, lambda: target(x.real(), *rest))


KERNELS: Mapping[Any, Callable[..., Pending]] = {
    **{target: _weighted for target, rule in INTEGER.items() if rule.has_weight},
    aten.matmul.default: _product,
    aten.bmm.default: _product,
    aten.mm.default: _product,
    aten.add.Tensor: _add,
    aten.mul.Tensor: _mul,
    aten.adaptive_avg_pool2d.default: _global_pool,
    aten.avg_pool2d.default: _average_pool,
    aten.cat.default: _concatenate,
    aten.sigmoid.default: _unary,
    aten.leaky_relu.default: _unary,
}


def _all_codes(node: Node, arguments: Any) -> bool:
    rule = INTEGER[node.target]
    if node.target is aten.cat.default:
        return not is_move(node) and all(isinstance(part, Codes) for part in arguments[0])
    positions = [*rule.activations, 1] if rule.has_weight else rule.activations
    wanted = all(isinstance(arguments[position], Codes) for position in positions)
    bias = arguments[2] if rule.has_weight and len(arguments) > 2 else None
    return wanted and (bias is None or isinstance(bias, Codes))


def _real(value: Any) -> Any:
    return value.real() if isinstance(value, Codes | Pending) else value


def _flat(arguments: Any) -> list[Any]:
    leaves: list[Any] = torch.utils._pytree.tree_leaves(arguments)
    return leaves
