"""XNNPACK brings integer sums to the codes of the result where their scales are not too far apart.

    code = clip(rint(f32(sum) * f32(s_in * s_w / s_out)) + zero point)

It refuses a factor of 256 or more, and would then leave the layer to a kernel with another rounding.
"""

import numpy as np

from export.errors import DeclinedError
from export.tflite.file.graph import TensorGrid

LARGEST_FACTOR = 256.0
RATIOS = {"ADD": (2.0**-10, 2.0**8), "MUL": (2.0**-16, 2.0**8), "QUANTIZE": (2.0**-8, 2.0**7)}
"""What XNNPACK takes of an operand's scale over the result's (MUL: of both operands' product), from and below.

Source: TensorFlow, xnnpack_delegate.cc (ADD, MUL), and XNNPACK, convert-nc.c (codes to another grid)."""


def check_requantization(layer: str, sum_scale: np.ndarray, output: TensorGrid | None) -> None:
    """See that a layer's sums can be brought to its output's grid.

    Args:
        layer: For the message.
        sum_scale: Input scale times weight scale, float32 `(1,)` or `(C,)`.
        output: The grid of the result.

    Raises:
        DeclinedError: The runtime refuses it.
    """
    assert output is not None
    factors = sum_scale / output.scale
    worst = int(factors.argmax())
    if not factors[worst] < LARGEST_FACTOR:
        raise DeclinedError(
            f"{layer}: input scale times weight scale over output scale is {float(factors[worst]):.4g} in channel "
            f"{worst}, and LiteRT refuses {LARGEST_FACTOR:.0f} or more; leave it out with --activations-except {layer}"
        )


def check_ratio(layer: str, code: str, scale: np.ndarray, output: TensorGrid) -> None:
    """See that codes can be brought to another grid by an operator other than a layer with weights.

    Raises:
        DeclinedError: The runtime refuses it, and would compute with another rounding.
    """
    low, high = RATIOS[code]
    ratio = float((scale / output.scale)[0])
    if not low <= ratio < high:
        raise DeclinedError(
            f"{layer}: a scale of {float(scale[0]):.4g} at its input is {ratio:.4g} of that of its output, and LiteRT "
            f"takes {low:.4g} to {high:.0f} ({code}); leave it out with --activations-except {layer}"
        )
