"""Give an image network's first convolution more channels and fewer positions. Exact: the same products, the same sums.

    Before: x (N, 3, 224, 224) -> conv 7x7, stride 2, padding 3
    After:  x -> space_to_depth -> (N, 12, 112, 112) -> pad 2 before, 1 behind -> conv 4x4, stride 1

A kernel for three channels copies three bytes at a time; for ResNet-18 this takes a third off the first convolution.
The rearranged weight holds the original one and zeros. It is stored rearranged; `restore_kernel` gives it back.
"""

import dataclasses

import torch
from torch import Tensor
from torch.fx import Node

from codeq.graph.nodes import insert_call, replace_node, state_name
from export.program.program import ReferenceProgram, remove_unused_tensors, set_tensor

aten = torch.ops.aten

BLOCK = 2
MAX_CHANNELS = 4
MIN_KERNEL = 5
"""Smaller kernels would gain more zeros than the copying costs."""


@torch.library.custom_op("codeq::space_to_depth", mutates_args=())
def space_to_depth(x: Tensor) -> Tensor:
    """ONNX SpaceToDepth with block size 2: `(N, C, H, W)` to `(N, 4 C, H / 2, W / 2)`, channels last in a block."""
    n, c, h, w = x.shape
    blocks = x.reshape(n, c, h // BLOCK, BLOCK, w // BLOCK, BLOCK)
    return blocks.permute(0, 3, 5, 1, 2, 4).reshape(n, BLOCK * BLOCK * c, h // BLOCK, w // BLOCK).contiguous()


@space_to_depth.register_fake
def _(x: Tensor) -> Tensor:
    n, c, h, w = x.shape
    return x.new_empty((n, BLOCK * BLOCK * c, h // BLOCK, w // BLOCK))


SPACE_TO_DEPTH = torch.ops.codeq.space_to_depth.default
"""The operator as nodes of a program have it."""


def rearrange_kernel(weight: Tensor, offset: tuple[int, int]) -> Tensor:
    """`(O, C, kh, kw)` to `(O, 4 C, ceil((kh + offset) / 2), ...)`: `offset` zeros before each axis, then blocks."""
    bottom, right = (-(size + before) % BLOCK for size, before in zip(weight.shape[2:], offset, strict=True))
    padded = torch.nn.functional.pad(weight, (offset[1], right, offset[0], bottom))
    return space_to_depth(padded)


def rearranged_shape(shape: tuple[int, ...], offset: tuple[int, int]) -> tuple[int, ...]:
    """Return the shape that `rearrange_kernel` gives a kernel of `shape`."""
    rows, columns = (-(-(size + before) // BLOCK) for size, before in zip(shape[2:], offset, strict=True))
    return (shape[0], BLOCK * BLOCK * shape[1], rows, columns)


def restore_kernel(weight: Tensor, offset: tuple[int, int], shape: tuple[int, ...]) -> Tensor | None:
    """Say what `rearrange_kernel` was given; None where `weight` is not its result for a kernel of `shape`."""
    o, c, h, w = weight.shape
    if c % (BLOCK * BLOCK) or len(shape) != 4:
        return None
    blocks = weight.reshape(o, BLOCK, BLOCK, c // (BLOCK * BLOCK), h, w).permute(0, 3, 4, 1, 5, 2)
    padded = blocks.reshape(o, c // (BLOCK * BLOCK), h * BLOCK, w * BLOCK)
    kernel = padded[:, :, offset[0] : offset[0] + shape[2], offset[1] : offset[1] + shape[3]].contiguous()
    if tuple(kernel.shape) != tuple(shape) or int(padded.count_nonzero()) != int(kernel.count_nonzero()):
        return None
    return kernel


def rearrange_first_convolution(program: ReferenceProgram, head: Node) -> bool:
    """Rearrange a convolution that alone reads the network's input, in place; whether it was done."""
    if not _fits(program, head):
        return False
    x, dequantize, bias, _, padding = [*head.args, None][:5] if len(head.args) > 4 else (*head.args[:4], [0, 0])
    assert isinstance(x, Node)
    assert isinstance(dequantize, Node)
    codes = dequantize.args[0]
    assert isinstance(codes, Node)
    record = program.weights[state_name(program.exported, codes) or ""]
    before = [int(size) for size in padding]  # type: ignore[union-attr,arg-type]
    offset = (before[0] % BLOCK, before[1] % BLOCK)
    rearranged = rearrange_kernel(record.encoding.codes, offset)
    outputs = [int(size) for size in head.meta["val"].shape[2:]]
    blocks = [int(size) // BLOCK for size in x.meta["val"].shape[2:]]
    starts = [(size + extra) // BLOCK for size, extra in zip(before, offset, strict=True)]
    # A stride-1 convolution gives start + blocks + end - kernel + 1 positions.
    ends = [
        wanted - start - size + kernel - 1
        for wanted, start, size, kernel in zip(outputs, starts, blocks, rearranged.shape[2:], strict=True)
    ]
    set_tensor(program, codes, rearranged)
    dequantize.meta["val"] = torch.empty_like(codes.meta["val"], dtype=torch.float32)
    record.encoding = dataclasses.replace(record.encoding, codes=rearranged)
    record.space_to_depth = offset
    moved = insert_call(head, SPACE_TO_DEPTH, (x,))
    padded = insert_call(head, aten.constant_pad_nd.default, (moved, [starts[1], ends[1], starts[0], ends[0]]))
    new = insert_call(head, aten.conv2d.default, (padded, dequantize, bias))
    replace_node(program.exported, head, new)
    remove_unused_tensors(program)
    return True


def _fits(program: ReferenceProgram, head: Node) -> bool:
    if head.target is not aten.conv2d.default or len(head.args) < 4 or head.kwargs:
        return False
    x, dequantize, _, stride = head.args[:4]
    dilation = list(head.args[5]) if len(head.args) > 5 else [1, 1]  # type: ignore[arg-type]
    groups = head.args[6] if len(head.args) > 6 else 1
    assert isinstance(x, Node)
    assert isinstance(dequantize, Node)
    if x.op != "placeholder" or len(x.users) > 1 or len(dequantize.users) > 1:
        return False
    channels, *sizes = x.meta["val"].shape[1:]
    kernel = dequantize.meta["val"].shape[2:]
    return bool(
        list(stride) == [BLOCK, BLOCK]  # type: ignore[arg-type]
        and dilation == [1, 1]
        and groups == 1
        and channels <= MAX_CHANNELS
        and all(isinstance(size, int) and size % BLOCK == 0 for size in sizes)
        and min(kernel) >= MIN_KERNEL
        and len(dequantize.args[0].users) == 1  # type: ignore[union-attr]
    )
