"""This pass has weights read as uint8, 128 more than their codes, with zero points of 128: onnxruntime multiplies u8 by
u8 in 32 bits on every processor, where u8 x s8 can saturate. Exact.

Before: dequantize(codes, scale, 0)        After: dequantize(cast(cast(codes, int32) + 128, uint8), scale, 128)

What is stored stays as it is: the sum of constants is computed when a session is created. It is for weights that two
kernels read, for which onnxruntime's own way out fails (see saturation.py); where the processor has VNNI, such a layer
is slower than with int8.
"""

from collections.abc import Collection

import numpy as np
import onnx_ir as ir

from export.program.names import codes_name

OFFSET = 128


def unsigned_weights(model: ir.Model, names: Collection[str]) -> None:
    """Change how the weights of these names are dequantized, in place."""
    graph = model.graph
    offset: ir.Value | None = None
    for name in names:
        codes = graph.initializers[codes_name(name)]
        readers = list(codes.consumers())
        if offset is None:
            offset = _initializer(graph, "codes_offset", np.array(OFFSET, np.int32))
        wide = ir.node("Cast", [codes], {"to": ir.DataType.INT32.value}, name=f"{name}_wide")
        moved = ir.node("Add", [wide.outputs[0], offset], name=f"{name}_moved")
        unsigned = ir.node("Cast", [moved.outputs[0]], {"to": ir.DataType.UINT8.value}, name=f"{name}_unsigned")
        for node in (wide, moved, unsigned):
            node.outputs[0].name = f"{node.name}_codes"
        graph.insert_before(readers[0], [wide, moved, unsigned])
        for number, reader in enumerate(readers):
            scale, old = reader.inputs[1], reader.inputs[2] if len(reader.inputs) > 2 else None
            assert scale is not None
            assert scale.const_value is not None
            zeros = np.full(scale.const_value.numpy().shape, OFFSET, np.uint8)
            own = _initializer(graph, f"{name}_zero_point{f'_{number}' if number else ''}", zeros)
            reader.replace_input_with(0, unsigned.outputs[0])
            reader.resize_inputs(3)
            reader.replace_input_with(2, own)
            if old is not None and old.name in graph.initializers and not old.uses():
                graph.initializers.pop(str(old.name))


def _initializer(graph: ir.Graph, name: str, array: np.ndarray) -> ir.Value:
    value = ir.Value(name=name, const_value=ir.Tensor(array, name=name))
    graph.register_initializer(value)
    return value
