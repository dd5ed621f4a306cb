"""This integer reference follows OpenVINO's CPU kernels, where its compiled model differs from onnxruntime's.

    addition behind a convolution   one primitive: the convolution's result is clipped to the range of its own grid but
                                    not rounded to it, then added, then rounded once (measured: outputs of 358 of 359
                                    images of digits equal to 1e-5, of none when it is rounded)

Everything else follows onnxruntime's rules but for ties, which it breaks another way: 2 of 2,619,264 codes, by one step
(measured). A convolution whose codes are looked at is kept apart from the addition, and rounded.
"""

from collections.abc import Callable, Mapping

from torch import Tensor

from codeq.activations.encoding import QUANT_MAX, ActivationEncoding
from export.reference.machine import IntegerReference

CONVOLUTION = "Convolution"
"""OpenVINO's type of primitive."""


def openvino_outputs(
    reference: IntegerReference,
    inputs: tuple[Tensor, ...],
    encodings: Mapping[str, ActivationEncoding],
    fused: frozenset[str],
) -> tuple[Tensor, ...]:
    """Say what OpenVINO computes.

    Args:
        reference: By onnxruntime's rules.
        inputs: In the order of the network's arguments.
        encodings: The grid of every quantized activation.
        fused: From `fused_convolutions`.
    """

    def keep_fractions(name: str, codes: Tensor, steps: Callable[[], Tensor]) -> Tensor:
        if name not in fused:
            return codes
        # Floats are read as values without a zero point.
        zero_point = encodings[name].zero_point
        return steps().clamp(-zero_point, QUANT_MAX - zero_point)

    return reference.outputs(*inputs, on_codes=keep_fractions)


def fused_convolutions(primitives: list[tuple[str, set[str]]], names: Mapping[str, object]) -> frozenset[str]:
    """Return the quantized activations that a convolution computes on its way to another one.

    Args:
        primitives: From `OpenVinoRunner.primitives`.
        names: Of all quantized activations, in the order of execution.
    """
    fused: set[str] = set()
    for kind, nodes in primitives:
        inside = [name for name in names if name in nodes]
        if kind == CONVOLUTION:
            fused.update(inside[:-1])
    return frozenset(fused)
