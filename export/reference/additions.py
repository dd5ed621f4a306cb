"""QLinearAdd is computed in another form on every kind of processor; all are within 3e-5 of a step of each other.

Every named product and quotient is rounded to float32; a, b are codes, za, zb their zero points:

    x86 with FMA     c = f32(zy - fma(ra, za, f32(rb * zb))), rint(fma(a, ra, fma(b, rb, c)))     ra = f32(sa / sy)
    x86 without      each product rounded by itself: rint(f32(f32(c + a ra) + b rb)), c = f32(zy - f32(ra za + rb zb))
    Arm (NEON)       integers: m = rint(r * 2^s) for both, s = 21 - exponent of the larger r, 13 <= s <= 31;
                     round half away from zero((a - za) ma + (b - zb) mb, 2^s) + zy; where a ratio is below 2^-14 or at
                     least 2^8, as in wasm
    wasm             rint(f32((f32(sa * (a - za)) + f32(sb * (b - zb))) / sy) + zy)

Source: onnxruntime, core/mlas/lib/qladd.cpp (1.31). All are held to the kernels, over all pairs of codes on sixty
random grids: 0 of 3,932,160 are off on AVX2, in Node and Chromium, and on emulated AVX, SSE and three Arm cores, where
each other form is off in 10 to 35 (docs/results/2026-11-28-devices/additions.py).
"""

import math
from collections.abc import Callable

from torch import Tensor
from torch.fx import Node

from export.reference.machine import Codes, Pending

SMALLEST_RATIO, LARGEST_RATIO = 2.0**-14, 2.0**8
BITS = 21
"""Of the larger multiplier, without its leading one."""
SHIFTS = (13, 31)


def add_fused(node: Node, a: Codes, b: Codes) -> Pending:
    """Add as x86 with FMA does."""

    def steps(sy: Tensor, zy: float) -> Tensor:
        ra, rb = a.scale / sy, b.scale / sy
        # A product and a sum in float64, rounded once, is a fused multiply-add of these small integers.
        offset = zy - (a.zero_point * ra.double() + (b.zero_point * rb).double()).float()
        inner = ((b.centered + b.zero_point).double() * rb.double() + offset.double()).float()
        return ((a.centered + a.zero_point).double() * ra.double() + inner.double()).float()

    return _pending(a, b, steps)


def add_unfused(node: Node, a: Codes, b: Codes) -> Pending:
    """Add as x86 without FMA does."""

    def steps(sy: Tensor, zy: float) -> Tensor:
        ra, rb = a.scale / sy, b.scale / sy
        offset = zy - (a.zero_point * ra + b.zero_point * rb)
        return (offset + (a.centered + a.zero_point) * ra) + (b.centered + b.zero_point) * rb

    return _pending(a, b, steps)


def add_plainly(node: Node, a: Codes, b: Codes) -> Pending:
    """Add as plain C++ does: in wasm, and where the ratios of scales are beyond the Arm form."""
    return _pending(a, b, lambda sy, zy: (a.real() + b.real()) / sy + zy)


def add_in_integers(node: Node, a: Codes, b: Codes) -> Pending:
    """Add as Arm does."""
    plainly = add_plainly(node, a, b)

    def steps(sy: Tensor, zy: float) -> Tensor:
        ratios = [float(a.scale / sy), float(b.scale / sy)]
        shift = BITS - (math.frexp(max(ratios))[1] - 1)
        fits = all(SMALLEST_RATIO <= ratio < LARGEST_RATIO for ratio in ratios) and SHIFTS[0] <= shift <= SHIFTS[1]
        first, second = (round(ratio * 2**shift) for ratio in ratios)  # half to even, as lrintf
        if not fits or max(first, second) >= 2 ** (BITS + 1):
            return plainly.steps(sy, zy)
        total = a.centered.long() * first + b.centered.long() * second
        rounded = total.sign() * ((total.abs() + 2 ** (shift - 1)) >> shift)
        return rounded.float() + zy

    return _pending(a, b, steps)


def _pending(a: Codes, b: Codes, steps: Callable[[Tensor, float], Tensor]) -> Pending:
    return Pending(steps, lambda: a.real() + b.real(), zero_inside=True)
