"""This module finds the lowest opset and IR version that a graph needs, and the onnxruntime release that brought them.

Devices run old runtimes. An operator's newer version often differs from the older one in its types alone, so a graph
written at opset 18 can be stamped lower, as long as every node means the same there.
"""

from collections.abc import Sequence

import onnx
import onnx_ir as ir
import onnxruntime
from onnx.defs import OpSchema

MIN_OPSET = 13
"""DequantizeLinear with one scale per channel; onnxruntime 1.6 has it, and `sparse_initializer` too."""

MEANING_CHANGED = {"Softmax": 13, "LogSoftmax": 13, "Hardmax": 13}
"""Operators whose meaning, not only their signature, changed at a version: never stamped below it."""

ONNXRUNTIME_BY_OPSET = {
    13: "1.6",
    14: "1.8",
    15: "1.9",
    16: "1.11",
    17: "1.12",
    18: "1.14",
    19: "1.16",
    20: "1.17",
    21: "1.18",
    22: "1.21",
    23: "1.23",
    24: "1.24",
    25: "1.24",
}
"""First onnxruntime release that opens a file of an opset: tried for 1.15 and later (docs/results), from onnxruntime's
own compatibility table before that, where there is no file for Python 3.11."""

FUNCTIONS_SINCE = "1.17"
"""First onnxruntime release that folds functions of a file away before it fuses quantized layers (docs/results)."""

DECODERS_SINCE = "1.15"
"""The oldest release in which decoders written out were seen to fold away (docs/results)."""

NEWEST_OPSET = max(ONNXRUNTIME_BY_OPSET)


def lowest_opset(graph: ir.Graph) -> tuple[int, str]:
    """Return the lowest opset at which every node of a graph means the same, and the operator that needs it.

    Args:
        graph: Types known, as torch's exporter leaves them.

    Returns:
        (opset, operator name); the name is "DequantizeLinear" where the floor MIN_OPSET decides.
    """
    lowest, needed_by = MIN_OPSET, "DequantizeLinear"
    for node in ir.traversal.RecursiveGraphIterator(graph):
        if node.domain not in ("", "ai.onnx"):
            continue
        version = lowest_version(node, graph.opset_imports[""])
        if version > lowest:
            lowest, needed_by = version, node.op_type
    return lowest, needed_by


def stamp_opset(model: ir.Model, opset: int) -> None:
    """Declare an opset that `lowest_opset` allows, in place, and drop the attributes it does not know yet.

    Those hold the default that older operators have for lack of a choice: `lowest_opset` made sure of it.
    """
    model.opset_imports[""] = opset
    model.ir_version = smallest_ir_version(opset)
    for node in ir.traversal.RecursiveGraphIterator(model.graph):
        if node.domain in ("", "ai.onnx"):
            known = onnx.defs.get_schema(node.op_type, opset, "").attributes
            for name in [name for name in node.attributes if name not in known]:
                node.attributes.pop(name)


def smallest_ir_version(opset: int) -> int:
    """Return the IR version of the onnx release that brought an opset."""
    return int(onnx.helper.find_min_ir_version_for([onnx.helper.make_opsetid("", opset)]))


def oldest_onnxruntime(opset: int, *, functions: bool = False, decoders: bool = False) -> str:
    """Return the first onnxruntime release that should load a file of this opset, e.g. "1.8", and folds its decoders
    away."""
    by_opset = ONNXRUNTIME_BY_OPSET[max(MIN_OPSET, opset)]
    since = FUNCTIONS_SINCE if functions else DECODERS_SINCE if decoders else by_opset
    return max(by_opset, since, key=_release)


def _release(version: str) -> tuple[int, ...]:
    return tuple(map(int, version.split(".")))


def installed_onnxruntime() -> str:
    """Version of the onnxruntime that is installed here."""
    return str(onnxruntime.__version__)


def lowest_version(node: ir.Node, opset: int) -> int:
    """Return the lowest version of a node's operator, but MIN_OPSET at least, that means the same as the one at
    `opset`."""
    schema = onnx.defs.get_schema(node.op_type, opset, "")
    floor = MEANING_CHANGED.get(node.op_type, 1)
    while schema.since_version > max(floor, MIN_OPSET):
        try:
            older = onnx.defs.get_schema(node.op_type, schema.since_version - 1, "")
        except onnx.defs.SchemaError:
            break  # the operator is new at this version
        if older.deprecated or not _means_the_same(node, schema, older):
            break
        schema = older
    return int(schema.since_version)


def _means_the_same(node: ir.Node, newer: OpSchema, older: OpSchema) -> bool:
    """Whether a node fits the older schema: its attributes, its inputs and outputs, and their types."""
    for name, attribute in newer.attributes.items():
        known = older.attributes.get(name)
        if known is None:
            given = node.attributes.get(name)
            if given is not None and not (_is_default(given, attribute) or _is_implied(node, name)):
                return False
        elif known.type != attribute.type or (
            name not in node.attributes and known.default_value != attribute.default_value
        ):
            return False
    return _ports_fit(node.inputs, newer.inputs, older.inputs, older) and _ports_fit(
        node.outputs, newer.outputs, older.outputs, older
    )


def _ports_fit(
    values: Sequence[ir.Value | None],
    newer: Sequence[OpSchema.FormalParameter],
    older: Sequence[OpSchema.FormalParameter],
    schema: OpSchema,
) -> bool:
    constraints = {item.type_param_str: item.allowed_type_strs for item in schema.type_constraints}
    for index, value in enumerate(values):
        if value is None:
            continue
        port, before = _port(newer, index), _port(older, index)
        # By position: names of ports change (mean became input_mean), their order does not.
        if before is None or port is None:
            return False
        allowed = constraints.get(before.type_str, [before.type_str])
        if value.dtype is None or f"tensor({_type_name(value.dtype)})" not in allowed:
            return False
    return True


def _port(ports: Sequence[OpSchema.FormalParameter], index: int) -> OpSchema.FormalParameter | None:
    if index < len(ports):
        return ports[index]
    if ports and ports[-1].option == OpSchema.FormalParameterOption.Variadic:
        return ports[-1]
    return None


def _type_name(dtype: ir.DataType) -> str:
    return {"FLOAT": "float"}.get(dtype.name, dtype.name.lower())


def _is_default(attribute: ir.Attr, definition: OpSchema.Attribute) -> bool:
    default = onnx.helper.get_attribute_value(definition.default_value)
    return bool(attribute.value == (default.decode() if isinstance(default, bytes) else default))


def _is_implied(node: ir.Node, name: str) -> bool:
    """Split's `num_outputs`, new at 18, says what the outputs say already, where all parts are equal."""
    shapes = {str(output.shape) for output in node.outputs}
    return (node.op_type, name) == ("Split", "num_outputs") and len(shapes) == 1 and "None" not in shapes
