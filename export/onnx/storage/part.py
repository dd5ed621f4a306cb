"""A part says what a codec makes of one weight before anything is encoded: its tensors, its decoder calls and its exact
bytes.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import FunctionProto, NodeProto, TensorProto

from export.onnx.storage.decoder import DOMAIN, inline
from export.onnx.storage.weight import CodedWeight

BITS: dict[int, int] = {TensorProto.INT8: 8, TensorProto.UINT8: 8, TensorProto.INT4: 4, TensorProto.INT2: 2}
"""One element of a type that fields have takes so many bits."""


@dataclass(frozen=True)
class Field:
    """Describes one tensor of a part: `role` within the weight, ONNX `data_type`, `dims`."""

    role: str
    data_type: int
    dims: tuple[int, ...]

    @property
    def size_bytes(self) -> int:
        """Count the bytes of the values alone."""
        return -(-math.prod(self.dims) * BITS[self.data_type] // 8)


@dataclass(frozen=True)
class Call:
    """Describes one node of a decoder. Inputs and output are roles; the role `codes` is the whole weight.

    `operator` is a decoder's name, or an operator of ONNX itself where `domain` is empty. A role that begins with @ is
    the same for every weight (`export.onnx.storage.bits.SHARED`).
    """

    operator: str
    inputs: tuple[str, ...]
    output: str
    attributes: Mapping[str, Any]
    domain: str = DOMAIN


@dataclass(frozen=True)
class Part:
    """Describes a way to store a weight, or its positions, or its levels.

    Attributes:
        codec: For people, e.g. "golomb 6".
        fields, calls: Known before anything is encoded.
        transient_bytes: Of what the decoder computes on the way. onnxruntime keeps all of it until every weight of the
            file is decoded, and the time that a session takes to create follows it.
        encode: Gives every field's values of a weight, by role, packed as they are stored.
        backwards: The weight is encoded from its last code to its first.
    """

    codec: str
    fields: tuple[Field, ...]
    calls: tuple[Call, ...]
    transient_bytes: int
    encode: Callable[[CodedWeight], Mapping[str, np.ndarray]]
    backwards: bool = False

    def __add__(self, other: "Part") -> "Part":
        """Levels + positions: the calls of `self` come first."""
        return Part(
            codec=f"{other.codec} + {self.codec}",
            fields=self.fields + other.fields,
            calls=self.calls + other.calls,
            transient_bytes=self.transient_bytes + other.transient_bytes,
            encode=lambda weight: {**self.encode(weight), **other.encode(weight)},
            backwards=other.backwards,
        )


def value_name(role: str, prefix: str, codes_name: str) -> str:
    """Return the graph value of a role: short, for it is written once for the tensor and once for each reader."""
    if role.startswith("@"):
        return role
    return codes_name if role == "codes" else f"{prefix}/{role}"


def call_nodes(call: Call, prefix: str, codes_name: str, *, functions: bool) -> list[NodeProto]:
    """Give a call as a node without a name, or written out where the runtime takes no functions."""
    inputs = [value_name(role, prefix, codes_name) for role in call.inputs]
    output = value_name(call.output, prefix, codes_name)
    node = onnx.helper.make_node(call.operator, inputs, [output], domain=call.domain, **call.attributes)
    return [node] if functions else inline(node, value_name(call.output, prefix, f"{prefix}/codes"))


def part_nodes(part: Part, prefix: str, codes_name: str, *, functions: bool) -> list[NodeProto]:
    """Return all calls of one weight."""
    return [node for call in part.calls for node in call_nodes(call, prefix, codes_name, functions=functions)]


def make_tensors(part: Part, weight: CodedWeight, prefix: str, codes_name: str) -> list[TensorProto]:
    """Encode: the fields as initializers with raw data."""
    arrays = part.encode(weight.backwards if part.backwards else weight)
    tensors = []
    for field in part.fields:
        raw = np.ascontiguousarray(arrays[field.role]).tobytes()
        assert len(raw) == field.size_bytes, (part.codec, field.role, len(raw), field.size_bytes)
        name = value_name(field.role, prefix, codes_name)
        tensors.append(TensorProto(name=name, data_type=field.data_type, dims=field.dims, raw_data=raw))
    return tensors


def part_bytes(part: Part, prefix: str, codes_name: str, *, functions: bool) -> int:
    """Count the exact bytes of the tensors and nodes in the file, without encoding: protobuf's arithmetic."""
    tensors = sum(_tensor_bytes(field, value_name(field.role, prefix, codes_name)) for field in part.fields)
    return tensors + message_bytes(part_nodes(part, prefix, codes_name, functions=functions))


def message_bytes(messages: Sequence[Any]) -> int:
    """Count the bytes of messages as elements of a repeated field with a one-byte tag."""
    return sum(delimited_bytes(message.ByteSize()) for message in messages)


def functions_bytes(functions: Sequence[FunctionProto]) -> int:
    """Count the bytes of functions in a model: the tag of ModelProto.functions has two bytes."""
    return message_bytes(functions) + len(functions)


def _tensor_bytes(field: Field, name: str) -> int:
    header = TensorProto(name=name, data_type=field.data_type, dims=field.dims).ByteSize()
    return delimited_bytes(header + delimited_bytes(field.size_bytes))


def delimited_bytes(size: int) -> int:
    """Count the bytes of a tag of one byte, the length as a varint, and the content (Protocol Buffers encoding)."""
    return 1 + max(1, -(-size.bit_length() // 7)) + size
