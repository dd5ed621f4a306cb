"""This module says which weights can make an integer kernel saturate on x86 without VNNI, and what onnxruntime offers
against it.

There (AVX2, and AVX512 without VNNI) a kernel adds two products of a uint8 activation and an int8 code in 16 bits
(vpmaddubsw), and keeps 32767 of what is larger. Whichever two codes of a weight it pairs, no sum is too large where
the two largest codes sum to 128 at most and the two smallest to -128 at least: 255 x 128 < 2^15 < 255 x 129. It is a
bound: a weight beyond it saturates where activations are large at both places.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import onnx_ir as ir
from torch import Tensor

from export.onnx.passes.own_zero_points import own_zero_points
from export.onnx.passes.unsigned_weights import unsigned_weights
from export.onnx.sessions import PRECISE_SESSION_OPTIONS
from export.program.names import codes_name
from export.program.program import ReferenceProgram

PAIR_LIMIT = 128
SELECTORS = ("Gather",)
"""They read a weight and multiply nothing."""


@dataclass(frozen=True)
class Saturation:
    """Says what can saturate in a file.

    Attributes:
        pair_sums: The largest sum, without its sign, of two codes of one sign, by the names of weights where it is too
            large.
        unsigned: Those of them that two kernels read, and therefore as uint8.
    """

    pair_sums: Mapping[str, int] = field(default_factory=dict)
    unsigned: tuple[str, ...] = ()

    @property
    def weights(self) -> tuple[str, ...]:
        """Name the weights with a pair of codes that is too large."""
        return tuple(self.pair_sums)

    @property
    def session_options(self) -> dict[str, str]:
        """Return what the file asks for so that nothing saturates."""
        return PRECISE_SESSION_OPTIONS if len(self.weights) > len(self.unsigned) else {}


def largest_pair_sum(codes: Tensor) -> int:
    """Return what the two largest or the two smallest of a weight's int8 codes sum to, without its sign.

    Beyond PAIR_LIMIT some pair of activations saturates.
    """
    values = codes.flatten().int()
    if values.numel() < 2:
        return 0
    high, low = values.topk(2).values.clamp(min=0), values.topk(2, largest=False).values.clamp(max=0)
    return max(int(high.sum()), -int(low.sum()))


def prevent_saturation(model: ir.Model, program: ReferenceProgram) -> Saturation:
    """Find what can saturate in a lowered program, and bring the graph, in place, to what exact kernels ask of it."""
    if program.activations is None:
        return Saturation()
    readers = {record.name: _readers(model, record.name) for record in program.weights.values()}
    used = [record for record in program.weights.values() if readers[record.name]]
    sums = {record.name: largest_pair_sum(record.encoding.codes) for record in used}
    beyond = {name: value for name, value in sums.items() if value > PAIR_LIMIT}
    if not beyond:
        return Saturation()
    shared = tuple(name for name, count in readers.items() if count > 1)
    unsigned_weights(model, shared)
    own_zero_points(model)
    return Saturation(beyond, tuple(name for name in shared if name in beyond))


def _readers(model: ir.Model, weight: str) -> int:
    """Count the operators that multiply by a weight."""
    codes = model.graph.initializers.get(codes_name(weight))
    if codes is None:
        return 0
    values = [node.outputs[0] for node in codes.consumers()]
    return sum(node.op_type not in SELECTORS for value in values for node in value.consumers())
