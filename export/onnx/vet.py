"""This module holds a model to limits before anything of it is computed, so that a damaged or a crafted file ends in
one line, soon, and within bounds of memory.

What is computed from constants, above all the decoders of weights, must be what files of ours compute: operators of
ONNX itself, in functions that do not call themselves, with results whose sizes follow from the file (sizes.py) and stay
in proportion to it. Loops and branches are in no file of ours. wire.py has looked at the bytes and the names before.
"""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePath

import numpy as np
import onnx
from onnx import AttributeProto, NodeProto, TensorProto, numpy_helper

from codeq.errors import first_line
from codeq.toolkit.text import printable
from export.errors import ExportError
from export.metadata import WeightMetadata
from export.onnx.opset import MIN_OPSET, NEWEST_OPSET
from export.onnx.sizes import ITEM_BITS, Sized, UnknownSizeError, sized_outputs, sized_tensor

LEAST_BYTES = 2**29
"""So many bytes may be computed from the constants of any file, however small."""
BYTES_PER_BYTE = 512
"""So many for each byte of a larger one: a weight of a hundred zeros to each other code takes some 400."""
LEAST_STEPS = 4 * 10**9
"""So many multiplications and copies of elements may that take; about ten seconds."""
STEPS_PER_BYTE = 4000
RUN_STEPS = 2 * 10**11
"""So many steps may a run of one input take, in a file of ours; a ResNet-50 takes 4 * 10^9."""
RUN_STEPS_PER_BYTE = 40_000
"""So many for each byte of a larger file: a convolution that uses each weight at so many places."""
UNCOUNTED = ("Einsum", "Attention")
"""Operators of which onnx does not tell the steps."""
MAX_NODES = 50_000
"""Nodes of a model, every call of a function counted with what it calls."""
MAX_INPUT = 2**28
"""Elements of an input, its open sizes left out."""
MAX_WEIGHTS = 20_000
MAX_LOOK_UPS = 5 * 10**7
"""Weights times nodes and tensors: what each is computed from is looked up among all."""
MAX_NUMBER = 19
"""Digits of an offset or a length."""
OWN_DOMAINS = ("", "ai.onnx")
GRAPHS = (AttributeProto.GRAPH, AttributeProto.GRAPHS)


@dataclass
class _Budget:
    """Counts what constants take, against what a file of this size may ask for."""

    file_bytes: int
    opset: int
    used_bytes: int = 0
    used_steps: int = 0
    run_steps: int = 0
    largest_bytes: int = field(init=False)
    largest_steps: int = field(init=False)

    def __post_init__(self) -> None:
        self.largest_bytes = max(LEAST_BYTES, BYTES_PER_BYTE * self.file_bytes)
        self.largest_steps = max(LEAST_STEPS, STEPS_PER_BYTE * self.file_bytes)

    def spend(self, value: Sized, steps: int) -> None:
        self.used_bytes += value.size_bytes
        self.used_steps += steps
        if self.used_bytes > self.largest_bytes:
            raise UnknownSizeError(
                f"constants would become {self.used_bytes:.1e} bytes, of which a file of {self.file_bytes} bytes may "
                f"ask for {self.largest_bytes:.1e}"
            )
        if self.used_steps > self.largest_steps:
            raise UnknownSizeError(
                f"constants would take {self.used_steps:.1e} steps to compute, of which a file of {self.file_bytes} "
                f"bytes may ask for {self.largest_steps:.1e}"
            )

    def run(self, node: NodeProto, values: Sequence[Sized], steps: int) -> None:
        """Count what each run computes: it is freed again, so that a value counts alone."""
        largest = max((value.size_bytes for value in values), default=0)
        if largest > self.largest_bytes:
            raise UnknownSizeError(
                f"{node.op_type} gives {largest:.1e} bytes, expected {self.largest_bytes:.1e} at most"
            )
        self.run_steps += 0 if node.op_type in UNCOUNTED else steps
        limit = max(RUN_STEPS, RUN_STEPS_PER_BYTE * self.file_bytes)
        if self.run_steps > limit:
            raise UnknownSizeError(f"a run takes {self.run_steps:.1e} steps and more, expected {limit:.1e} at most")


def _budget(model: onnx.ModelProto, source: Path) -> _Budget:
    opsets = [entry.version for entry in model.opset_import if entry.domain in OWN_DOMAINS]
    locations = {
        entry.value for tensor in model.graph.initializer for entry in tensor.external_data if entry.key == "location"
    }
    beside = [source.parent / location for location in locations]
    external = sum(path.stat().st_size for path in beside if path.is_file())
    return _Budget(model.ByteSize() + external, int(max(opsets, default=MIN_OPSET)))


def check_model(model: onnx.ModelProto, source: Path, *, ours: bool) -> dict[str, Sized]:
    """Hold a model to the limits.

    Args:
        model: The parsed file, external data left where it is.
        source: The file; for its external data, and for messages.
        ours: It says that this package wrote it; what others write may hold operators that no file of ours does, and
            is held to what can be told of it.

    Returns:
        What is known of each constant, by its name.

    Raises:
        ExportError: It is outside the limits; the message says where.
    """
    graph = model.graph
    for tensor in graph.initializer:
        _check_external(tensor, source)
    for item in graph.input:
        sizes = [dimension.dim_value for dimension in item.type.tensor_type.shape.dim]
        empty = any(d.HasField("dim_value") and d.dim_value < 1 for d in item.type.tensor_type.shape.dim)
        if empty or math.prod(size for size in sizes if size) > MAX_INPUT:
            raise ExportError(f"{source}: input {item.name!r} has the shape {sizes[:16]}; it is damaged")
    functions = _functions(model, source)
    if ours:
        if not graph.output:
            raise ExportError(f"{source}: has no outputs; it is damaged")
        _check_opsets(model, source)
        _check_attributes([*graph.node, *(node for function in model.functions for node in function.node)], source)
        for tensor in graph.initializer:
            _check_data(tensor, source)
        for sparse in graph.sparse_initializer:
            _check_sparse(sparse, source)
        _check_names(graph, source)
    return _check_constants(model, functions, source, ours=ours)


def check_weights(model: onnx.ModelProto, weights: Sequence[WeightMetadata], source: Path) -> None:
    """Hold the weights that a file of ours names to the limits.

    Args:
        model: From `check_model`.
        weights: Of its metadata.
        source: For messages.

    Raises:
        ExportError: They are too many or too large.
    """
    graph = model.graph
    look_ups = len(weights) * (len(graph.node) + len(graph.initializer) + len(graph.sparse_initializer))
    if look_ups > MAX_LOOK_UPS or len(weights) > MAX_WEIGHTS:
        raise ExportError(f"{source}: names {len(weights)} weights of {len(graph.node)} nodes, which no network needs")


def check_codes(counts: Iterable[int], model: onnx.ModelProto, source: Path) -> None:
    """Hold the codes of all weights, equal ones counted each time, to the limits.

    Args:
        counts: Of codes, by weight.
        model: From `check_model`.
        source: For messages.

    Raises:
        ExportError: They are too many for a file of that size.
    """
    total, largest = sum(counts), _budget(model, source).largest_bytes
    if total > largest:
        raise ExportError(f"{source}: its weights have {total:.1e} codes, expected {largest:.1e} at most")


def _external_bytes(tensor: TensorProto) -> int:
    lengths = [entry.value for entry in tensor.external_data if entry.key == "length"]
    return sum(int(length) for length in lengths if length.isdecimal())


def _check_external(tensor: TensorProto, source: Path) -> None:
    """See that a tensor's data beside the model are in an ordinary file of the model's folder."""
    if not tensor.external_data and tensor.data_location != TensorProto.EXTERNAL:
        return
    place = f"{source}: {tensor.name!r} has its data"
    entries = {entry.key: entry.value for entry in tensor.external_data}
    location = entries.get("location", "")
    if not location:
        raise ExportError(f"{place} in no file; it is damaged")
    pure = PurePath(location)
    if pure.is_absolute() or ".." in pure.parts:
        raise ExportError(f"{place} in {location!r}, expected a file beside the model")
    path, folder = source.parent / pure, source.parent
    try:
        inside = path.resolve().is_relative_to(folder.resolve())
        exists = path.exists()
    except (OSError, RuntimeError) as error:
        raise ExportError(f"{place} in {location!r} ({first_line(error)})") from error
    if not inside:
        raise ExportError(f"{place} in {location!r}, which leads out of the model's folder")
    if exists and not path.is_file():
        raise ExportError(f"{place} in {location!r}, which is no ordinary file")
    if exists and source.exists() and path.samefile(source):
        raise ExportError(f"{place} in the model itself; it is damaged")
    for key in ("offset", "length"):
        number = entries.get(key, "0")
        if not (number.isascii() and number.isdecimal() and len(number) <= MAX_NUMBER):
            raise ExportError(f"{place} at {key} {printable(number, 40)!r}; it is damaged")
    end = int(entries.get("offset", "0")) + int(entries.get("length", "0"))
    if exists and end > path.stat().st_size:
        raise ExportError(
            f"{place} in {location!r} up to byte {end}, which has {path.stat().st_size}; was it copied whole?"
        )


def _check_opsets(model: onnx.ModelProto, source: Path) -> None:
    versions = [entry.version for entry in model.opset_import if entry.domain in OWN_DOMAINS]
    if len(versions) != 1:
        raise ExportError(
            f"{source}: imports {'several versions' if versions else 'no operators'} of ONNX; it is damaged"
        )
    if not MIN_OPSET <= versions[0] <= NEWEST_OPSET:
        raise ExportError(
            f"{source}: is of opset {versions[0]}, expected {MIN_OPSET} to {NEWEST_OPSET}; upgrade codeq if it is of a "
            "newer one"
        )


def _check_attributes(nodes: Iterable[NodeProto], source: Path) -> None:
    for node in nodes:
        for attribute in node.attribute:
            if attribute.type in GRAPHS or attribute.HasField("g") or attribute.graphs:
                raise ExportError(f"{source}: has a {node.op_type}, which no file of ours has; it was changed")
            for tensor in (*([attribute.t] if attribute.HasField("t") else ()), *attribute.tensors):
                if tensor.external_data or tensor.data_location == TensorProto.EXTERNAL:
                    raise ExportError(f"{source}: {node.op_type} has an attribute beside the model; it was changed")
                _check_data(tensor, source)


def _check_data(tensor: TensorProto, source: Path) -> None:
    """See that the data of a tensor are those of its type and shape."""
    place = f"{source}: tensor {tensor.name!r}"
    if tensor.data_type not in ITEM_BITS:
        raise ExportError(f"{place} is of type {tensor.data_type}, which no file of ours has; it is damaged")
    if tensor.HasField("segment") or any(size < 0 for size in tensor.dims):
        raise ExportError(f"{place} has the shape {list(tensor.dims)[:16]}; it is damaged")
    numel = math.prod(tensor.dims)
    wanted = -(-numel * ITEM_BITS[tensor.data_type] // 8)
    if tensor.data_location == TensorProto.EXTERNAL:
        found = _external_bytes(tensor)
    elif tensor.HasField("raw_data"):
        found = len(tensor.raw_data)
    else:
        held = (tensor.float_data, tensor.int32_data, tensor.int64_data, tensor.double_data, tensor.uint64_data)
        found = wanted if sum(map(len, held)) == _typed_count(tensor.data_type, numel) else -1
    if found != wanted:
        raise ExportError(
            f"{place} of shape {list(tensor.dims)[:16]} needs {wanted} bytes and holds others; it is damaged"
        )


def _typed_count(data_type: int, numel: int) -> int:
    """Count the numbers of a typed field; those of four and two bits share one."""
    bits = ITEM_BITS[data_type]
    return -(-numel * bits // 8) if bits < 8 else numel


def _check_sparse(sparse: onnx.SparseTensorProto, source: Path) -> None:
    """See that a sparse tensor is in the form that we write: linear indices, ascending, in its shape."""
    place = f"{source}: sparse tensor {sparse.values.name!r}"
    numel = math.prod(sparse.dims)
    if any(size < 0 for size in sparse.dims) or not len(sparse.dims) or numel > 2**31 - 1:
        raise ExportError(f"{place} has the shape {list(sparse.dims)[:16]}; it is damaged")
    for tensor in (sparse.values, sparse.indices):
        if tensor.external_data or tensor.data_location == TensorProto.EXTERNAL:
            raise ExportError(f"{place} has its data beside the model, which no file of ours does; it was changed")
        _check_data(tensor, source)
    if sparse.indices.data_type != TensorProto.INT64 or sparse.values.data_type != TensorProto.INT8:
        raise ExportError(f"{place} has no int64 indices of int8 codes; it is damaged")
    if len(sparse.values.dims) != 1 or list(sparse.indices.dims) != list(sparse.values.dims):
        raise ExportError(
            f"{place} has values of shape {list(sparse.values.dims)[:16]} at indices of shape "
            f"{list(sparse.indices.dims)[:16]}; it is damaged"
        )
    indices = numpy_helper.to_array(sparse.indices)
    if indices.size and (indices[0] < 0 or indices[-1] >= numel or bool((np.diff(indices) <= 0).any())):
        raise ExportError(f"{place} has indices that do not ascend from 0 to {numel - 1}; it is damaged")


def _check_names(graph: onnx.GraphProto, source: Path) -> None:
    """See that every value has one source, which comes before its readers."""
    made: set[str] = set()

    def add(name: str) -> None:
        if name in made:
            raise ExportError(f"{source}: has two values named {name!r}; it is damaged")
        made.add(name)

    for name in (
        *(item.name for item in graph.input),
        *(tensor.name for tensor in graph.initializer),
        *(tensor.values.name for tensor in graph.sparse_initializer),
    ):
        add(name)
    for node in graph.node:
        for name in node.input:
            if name and name not in made:
                raise ExportError(
                    f"{source}: {node.op_type} reads {name!r}, which nothing before it gives; it is damaged"
                )
        for name in node.output:
            if name:
                add(name)
    for item in graph.output:
        if item.name not in made:
            raise ExportError(f"{source}: nothing gives its output {item.name!r}; it is damaged")


Functions = Mapping[tuple[str, str], onnx.FunctionProto]


def _functions(model: onnx.ModelProto, source: Path) -> Functions:
    """Give the functions of a model by domain and name: none calls itself, and written out they are not too long."""
    functions: dict[tuple[str, str], onnx.FunctionProto] = {}
    for function in model.functions:
        key = function.domain, function.name
        if key in functions:
            raise ExportError(f"{source}: has two functions named {function.name!r}; it is damaged")
        functions[key] = function
    calls = {key: [(n.domain, n.op_type) for n in _all_nodes(function.node)] for key, function in functions.items()}
    lengths: dict[tuple[str, str], int] = {}
    waiting = dict(functions)
    while waiting:
        ready = [key for key in waiting if all(call not in waiting for call in calls[key])]
        if not ready:
            names = ", ".join(repr(name) for _, name in list(waiting)[:3])
            raise ExportError(f"{source}: its functions call themselves ({names}); it is damaged")
        for key in ready:
            lengths[key] = sum(lengths.get(call, 1) for call in calls[key])
            del waiting[key]
            if lengths[key] > MAX_NODES:
                raise ExportError(f"{source}: its function {key[1]!r} is more than {MAX_NODES} nodes; it is damaged")
    total = sum(lengths.get((node.domain, node.op_type), 1) for node in _all_nodes(model.graph.node))
    if total > MAX_NODES:
        raise ExportError(f"{source}: has {total} nodes, expected {MAX_NODES} at most")
    return functions


def _all_nodes(nodes: Iterable[NodeProto]) -> Iterator[NodeProto]:
    """Yield nodes and those of their loops and branches."""
    for node in nodes:
        yield node
        for attribute in node.attribute:
            for graph in (*([attribute.g] if attribute.HasField("g") else ()), *attribute.graphs):
                yield from _all_nodes(graph.node)


def _check_constants(model: onnx.ModelProto, functions: Functions, source: Path, *, ours: bool) -> dict[str, Sized]:
    """Work out the sizes of all that depends on no input; where that is not `ours`, of what can be told."""
    graph = model.graph
    budget = _budget(model, source)
    known: dict[str, Sized] = {}
    flowing: dict[str, Sized] = {}
    place = "the graph"
    try:
        inputs = {item.name for item in graph.input}
        for tensor in graph.initializer:
            place = repr(tensor.name)
            if tensor.name not in inputs:
                known[tensor.name] = _sized(tensor, ours=ours)
        for sparse in graph.sparse_initializer:
            place = repr(sparse.values.name)
            known[sparse.values.name] = value = Sized(tuple(sparse.dims), sparse.values.data_type)
            budget.spend(value, value.numel)
        for item in graph.input:
            if item.name not in known:
                flowing[item.name] = _sized_input(item)
        for node in graph.node:
            if all(name in known or not name for name in node.input):
                place = repr(node.output[0]) if node.output else node.op_type
                _evaluate(node, {}, known, functions, budget, ours=ours)
            elif ours and (node.domain, node.op_type) in functions:
                raise ExportError(f"{source}: {node.op_type} decodes what depends on an input; it was changed")
            elif ours and node.domain not in OWN_DOMAINS:
                raise ExportError(
                    f"{source}: has an operator {node.op_type!r} of {node.domain!r}, which no file of ours has"
                )
            elif ours:
                place = repr(node.output[0]) if node.output else node.op_type
                _flow(node, known, flowing, budget)
    except UnknownSizeError as error:
        raise ExportError(f"{source}: {place} is not computed: {error}") from error
    return known


def _sized_input(item: onnx.ValueInfoProto) -> Sized:
    """Give the size of one input: where it is open, that of a batch of one."""
    kind = item.type.tensor_type
    return Sized(tuple(d.dim_value if d.HasField("dim_value") else 1 for d in kind.shape.dim), kind.elem_type)


def _flow(node: NodeProto, known: Mapping[str, Sized], flowing: dict[str, Sized], budget: _Budget) -> None:
    """Add what a node makes of the inputs, where its size can be told without them."""
    inputs = [known.get(name) or flowing.get(name) if name else None for name in node.input]
    if any(name and value is None for name, value in zip(node.input, inputs, strict=True)):
        return
    try:
        values, steps = sized_outputs(node, inputs, {item.name: item for item in node.attribute}, budget.opset)
    except UnknownSizeError:
        return
    budget.run(node, values, steps)
    flowing.update(zip(node.output, values, strict=True))


def _sized(tensor: TensorProto, *, ours: bool) -> Sized:
    try:
        return sized_tensor(tensor)
    except UnknownSizeError:
        if ours:
            raise
        return Sized((0,), tensor.data_type)


def _evaluate(
    node: NodeProto,
    given: Mapping[str, AttributeProto],
    known: dict[str, Sized],
    functions: Functions,
    budget: _Budget,
    *,
    ours: bool,
) -> None:
    """Add what a node gives to what is known; a call with all that it calls."""
    attributes = {}
    for attribute in node.attribute:
        wanted = attribute.ref_attr_name
        if not wanted:
            attributes[attribute.name] = attribute
        elif wanted in given:
            attributes[attribute.name] = given[wanted]
    inputs = [known[name] if name else None for name in node.input]
    function = functions.get((node.domain, node.op_type))
    if function is not None:
        if len(inputs) > len(function.input) or len(node.output) > len(function.output):
            raise UnknownSizeError(f"it calls {node.op_type} with too many values")
        inside = {name: value for name, value in zip(function.input, inputs, strict=False) if value is not None}
        for body in function.node:
            missing = [name for name in body.input if name and name not in inside]
            if missing and ours:
                raise UnknownSizeError(f"{node.op_type} reads {missing[0]!r}, which nothing in it gives")
            if not missing:
                _evaluate(body, attributes, inside, functions, budget, ours=ours)
        for name, inner in zip(node.output, function.output, strict=False):
            if inner in inside:
                known[name] = inside[inner]
            elif ours:
                raise UnknownSizeError(f"{node.op_type} gives {inner!r}, which nothing in it computes")
        return
    if node.domain not in OWN_DOMAINS:
        if ours:
            raise UnknownSizeError(f"it calls {node.op_type!r} of {node.domain!r}, which the file does not define")
        return
    try:
        values, steps = sized_outputs(node, inputs, attributes, budget.opset)
    except UnknownSizeError:
        if ours:
            raise
        return
    for name, value in zip(node.output, values, strict=True):
        budget.spend(value, steps)
        known[name] = value
