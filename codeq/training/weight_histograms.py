"""Count the float weights behind the quantizers in histograms, for the result record of a run (run_log.py)."""

from typing import Any

import torch
from torch import nn

from codeq.quantizer.attach import encode, quantized_weights

HISTOGRAM_BINS = 80


def weight_histograms(model: nn.Module, bins: int = HISTOGRAM_BINS) -> list[dict[str, Any]]:
    """Count how the float weights of an attached network lie around their levels: the `weights` of a result record.

    Args:
        model: A network with quantizers. One without gives an empty list.
        bins: Bins of each histogram.

    Returns:
        One entry per weight, in the network's order; a weight that several layers share appears once, as in `summary`.

    Raises:
        ValueError: A weight has NaN or infinite entries; the message names it.
    """
    encodings = encode(model)
    entries = {}
    for weight in quantized_weights(model):
        if id(weight.original) in entries:
            continue
        encoding = encodings[weight.name]
        # Channels with ranges of their own are shown in units of their mean scale, in which their levels are one.
        scale = encoding.scale.mean()
        values = (weight.original.detach() * (scale / encoding.along_axis(encoding.scale))).double().cpu()
        low, high = float(values.min()), float(values.max())
        if low == high:
            margin = abs(low) or 1.0
            low, high = low - margin, high + margin
        levels = torch.arange(-encoding.quant_max, encoding.quant_max + 1)
        codes = levels * encoding.multiplier + levels.sign() * encoding.offset
        # From the codes, as the weight itself is: the very values that the network computes with.
        value = codes.float() * scale.cpu()
        step_size = float(scale) * encoding.multiplier
        shift = float(scale) * encoding.offset
        if encoding.shift is not None:
            value = value + encoding.shift.cpu() * codes.sign()
            shift += float(encoding.shift)
        entries[id(weight.original)] = {
            "name": weight.name,
            "edges": [low, high],
            "counts": [int(count) for count in torch.histc(values, bins, low, high)],
            "dead_zone": 2 * (shift + step_size / 2),
            "levels": value.tolist(),
        }
    return list(entries.values())
