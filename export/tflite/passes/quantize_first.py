"""Quantize an image before its values are rearranged. Exact: each value is quantized by itself.

    x -> space_to_depth -> quantize -> dequantize        becomes        x -> quantize -> dequantize -> space_to_depth

A quarter of the bytes move, and the file's first tensor of codes has the image's own order.
"""

import torch

from export.program.program import ReferenceProgram
from export.program.space_to_depth import SPACE_TO_DEPTH

codeq = torch.ops.codeq


def quantize_first(program: ReferenceProgram) -> None:
    """Apply it in place wherever a rearranged image is quantized and nothing else reads it."""
    graph = program.exported.graph
    for moved in list(graph.nodes):
        if moved.target is not SPACE_TO_DEPTH or len(moved.users) != 1:
            continue
        (codes,) = moved.users
        if codes.target is not codeq.quantize.default or len(codes.users) != 1:
            continue
        (values,) = codes.users
        x = moved.args[0]
        for node in (codes, values):
            node.meta["val"] = torch.empty_like(x.meta["val"], dtype=node.meta["val"].dtype)
        values.replace_all_uses_with(moved)
        codes.replace_input_with(moved, x)
        moved.replace_input_with(x, values)
        values.append(moved)
