"""Let a convolution pad its own input. Exact: both pad with zeros.

    Before: Pad(x, 0.0) -> Conv<pads>        After: Conv<pads + padding>

A Pad of its own copies the whole input; convolutions ported from TensorFlow often come with one.
"""

import numpy as np
import onnx_ir as ir


def merge_padding(model: ir.Model) -> int:
    """Merge every zero padding that only one convolution reads, in place; returns how many."""
    merged = 0
    for node in list(model.graph):
        if node.op_type != "Conv" or node.inputs[0] is None:
            continue
        pad = node.inputs[0].producer()
        if pad is None or pad.op_type != "Pad" or len(pad.outputs[0].uses()) > 1:
            continue
        padding = _spatial_padding(pad)
        if padding is None or node.attributes.get_string("auto_pad", "NOTSET") != "NOTSET":
            continue
        before = node.attributes.get_ints("pads", [0] * len(padding))
        node.attributes["pads"] = ir.AttrInt64s("pads", [a + b for a, b in zip(before, padding, strict=True)])
        node.replace_input_with(0, pad.inputs[0])
        merged += 1
    return merged


def _spatial_padding(pad: ir.Node) -> list[int] | None:
    """Begins, then ends, of the axes behind batch and channels; None where it is no padding with zeros of these."""
    if pad.attributes.get_string("mode", "constant") != "constant" or len(pad.inputs) > 3:
        return None
    amounts = pad.inputs[1].const_value if pad.inputs[1] is not None else None
    value = pad.inputs[2] if len(pad.inputs) > 2 else None
    if amounts is None or (value is not None and (value.const_value is None or np.any(value.const_value.numpy()))):
        return None
    begins, ends = np.split(amounts.numpy(), 2)
    if np.any(begins < 0) or np.any(ends < 0) or begins[:2].any() or ends[:2].any():
        return None
    return [int(amount) for amount in (*begins[2:], *ends[2:])]
