"""This pass gives every weight zero points that no other weight has: onnxruntime's exact kernels replace them. Exact.

Before: dequantize(codes, scale, zero_point_int8)        After: dequantize(codes, scale, conv1.weight_zero_point)
"""

import numpy as np
import onnx_ir as ir


def own_zero_points(model: ir.Model) -> None:
    """Copy the int8 zero points of each DequantizeLinear, in place; those that nobody reads any more go."""
    graph = model.graph
    old: list[ir.Value] = []
    for node in graph:
        if node.op_type != "DequantizeLinear" or len(node.inputs) < 3:
            continue
        scale, zeros = node.inputs[1:3]
        tensor = None if zeros is None else zeros.const_value
        if scale is None or zeros is None or tensor is None or tensor.dtype != ir.DataType.INT8:
            continue
        name = f"{str(scale.name).removesuffix('_scale')}_zero_point"
        own = ir.Value(name=name, const_value=ir.Tensor(np.array(tensor.numpy()), name=name))
        graph.register_initializer(own)
        node.replace_input_with(2, own)
        old.append(zeros)
    for zeros in old:
        if zeros.name in graph.initializers and not zeros.uses():
            graph.initializers.pop(str(zeros.name))
