"""Keep a bilinear Resize between codes float: put a Sum of one summand in front of it. Exact.

    Before: codes -> DequantizeLinear -> Resize -> QuantizeLinear, on one grid
    After:  codes -> DequantizeLinear -> Sum -> Resize -> QuantizeLinear

Where both quantizers have one grid, onnxruntime takes a Resize for a move of codes (1.22 does, 1.31 does not): its
kernel on uint8 cuts fractions off, 0.42 of a step on average, where QuantizeLinear rounds.
"""

import onnx_ir as ir

from export.onnx.passes.push_dequantize import is_activation, same_grid


def keep_resizes_float(model: ir.Model) -> int:
    """Keep every bilinear Resize between codes of one grid float, in place; returns how many there were."""
    kept = 0
    for node in list(model.graph):
        if node.op_type != "Resize" or node.domain or node.attributes.get_string("mode", "nearest") == "nearest":
            continue
        x = node.inputs[0]
        source = x.producer() if x is not None else None
        if x is None or source is None or not is_activation(source):
            continue
        quantizers = [user for user in node.outputs[0].consumers() if user.op_type == "QuantizeLinear"]
        if not any(same_grid(quantizer.inputs[1:], source.inputs[1:]) for quantizer in quantizers):
            continue
        barrier = ir.Node("", "Sum", [x], num_outputs=1)
        floats = barrier.outputs[0]
        floats.name, floats.shape, floats.type = f"{node.outputs[0].name}_input", x.shape, x.type
        model.graph.insert_before(node, barrier)
        node.replace_input_with(0, floats)
        kept += 1
    return kept
