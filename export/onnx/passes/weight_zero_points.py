"""This pass writes out the zero points of weights, all 0: onnxruntime fuses linear layers only where they stand. Exact.

Before: dequantize(codes, scale)        After: dequantize(codes, scale, zero point int8)
"""

import torch

from codeq.graph.nodes import state_name
from export.program.program import ReferenceProgram, add_tensor


def add_weight_zero_points(program: ReferenceProgram) -> None:
    """Give every int8 weight of a quantized program its zero points, in place; those of one shape are one tensor."""
    known = {}
    for node in list(program.exported.graph.nodes):
        if node.target is not torch.ops.codeq.dequantize.default or len(node.args) > 4 or node.args[2] is not None:
            continue
        record = program.weights.get(state_name(program.exported, node.args[0]) or "")
        if record is None:
            continue
        zeros = torch.zeros_like(record.encoding.scale, dtype=torch.int8)
        name = "_".join(["zero_point_int8", *(["x".join(map(str, zeros.shape))] if zeros.ndim else [])])
        if name not in known:
            known[name] = add_tensor(program, name, zeros)
        node.args = (*node.args, known[name])
