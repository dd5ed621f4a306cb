"""Decoders are ONNX functions, written in onnxscript and shipped as model-local functions of the domain
`codeq.storage`.

onnxruntime inlines the functions of a file and folds what has constant inputs when a session is created, so a decoder
leaves nothing but its result in the running graph. For runtimes without functions, calls are written out. All of them
keep to operators of opset 13, and each means the same at every opset since.
"""

from collections.abc import Iterable, Iterator
from itertools import count
from typing import Any

import onnx
import onnxscript
from onnx import NodeProto
from onnxscript import opset13
from onnxscript.values import OnnxFunction, Opset

DOMAIN = "codeq.storage"
VERSION = 1
MIN_IR_VERSION = 8
"""A file with functions of its own needs it (ONNX IR specification)."""
DECODERS: dict[str, OnnxFunction] = {}
"""It maps names to decoders, and is filled by the codecs' modules as they are imported."""

_OPSET = Opset(DOMAIN, VERSION)
_PROTOS: dict[tuple[str, int], onnx.FunctionProto] = {}


def decoder(function: Any) -> OnnxFunction:
    """Decorate an onnxscript function as a decoder. It can be called with numpy arrays as well."""
    # What the decorator of onnxscript gives, with our opsets filled in.
    compiled = onnxscript.script(_OPSET, default_opset=opset13)(function)
    if compiled.name in DECODERS:
        raise ValueError(f"two decoders are called {compiled.name}")
    DECODERS[compiled.name] = compiled
    return compiled


def function_proto(name: str, opset: int) -> onnx.FunctionProto:
    """Return one decoder as it is shipped: without names of nodes, and with short ones for values inside."""
    if (name, opset) not in _PROTOS:
        _PROTOS[name, opset] = _shorten(DECODERS[name].to_function_proto(), opset)
    return _PROTOS[name, opset]


def required_functions(nodes: Iterable[NodeProto]) -> list[str]:
    """Return names of the decoders that nodes call, and that those call, sorted."""
    found: set[str] = set()
    waiting = {node.op_type for node in nodes if node.domain == DOMAIN}
    while waiting:
        name = waiting.pop()
        found.add(name)
        called = {node.op_type for node in function_proto(name, opset13.version).node if node.domain == DOMAIN}
        waiting |= called - found
    return sorted(found)


def inline(call: NodeProto, stem: str) -> list[NodeProto]:
    """Write the operators of a call in its place, for runtimes that take no functions; values inside are `stem.0`,
    ..."""
    return _inline(call, stem, count())


def _inline(call: NodeProto, stem: str, numbers: Iterator[int]) -> list[NodeProto]:
    if call.domain != DOMAIN:
        return [call]
    function = function_proto(call.op_type, opset13.version)
    given = {attribute.name: attribute for attribute in call.attribute}
    names = dict(zip((*function.input, *function.output), (*call.input, *call.output), strict=True))
    nodes: list[NodeProto] = []
    for body in function.node:
        node = NodeProto(op_type=body.op_type, domain=body.domain)
        node.input.extend(names[name] for name in body.input)
        for name in body.output:
            if name not in names:
                names[name] = f"{stem}.{next(numbers)}"
            node.output.append(names[name])
        for attribute in body.attribute:
            value = given[attribute.ref_attr_name] if attribute.ref_attr_name else attribute
            node.attribute.add().CopyFrom(value)
            node.attribute[-1].name = attribute.name
        nodes += _inline(node, stem, numbers)
    return nodes


def _shorten(function: onnx.FunctionProto, opset: int) -> onnx.FunctionProto:
    kept = set(function.input)
    short: dict[str, str] = {}

    def rename(name: str) -> str:
        if not name or name in kept:
            return name
        return short.setdefault(name, f"v{len(short)}")

    for node in function.node:
        node.ClearField("name")
        node.ClearField("doc_string")
        inputs, outputs = [rename(name) for name in node.input], [rename(name) for name in node.output]
        del node.input[:], node.output[:]
        node.input.extend(inputs)
        node.output.extend(outputs)
        for attribute in node.attribute:
            if attribute.HasField("t"):
                attribute.t.ClearField("name")
    outputs = [rename(name) for name in function.output]
    del function.output[:], function.opset_import[:], function.value_info[:]
    function.output.extend(outputs)
    function.ClearField("doc_string")
    function.opset_import.append(onnx.helper.make_opsetid("", opset))
    if any(node.domain == DOMAIN for node in function.node):
        function.opset_import.append(onnx.helper.make_opsetid(DOMAIN, VERSION))
    return function
