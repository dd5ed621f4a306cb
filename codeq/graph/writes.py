"""Rewrite what a network writes in place as new values, so that every value of its graph is computed once.

    y[..., :2] = z; return y      ->  return cat([z, y[..., 2:]], -1)
    x.sub_(mean); return conv(x)  ->  return conv(x - mean)
    self.calls += 1               ->  the buffer's next value, calls + 1, by the buffer's name
    relu_(x), x later read        ->  y = relu(x), y read instead

Exact: the same operators compute the same values. Tensors share memory here where the traced values do: a write into a
view is put back into what it is a view of, and other views of that are taken anew.
"""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.export import ExportedProgram
from torch.fx import Node
from torch.fx.node import map_arg

from codeq.graph.nodes import insert_call, operator_name

aten = torch.ops.aten
TO_THE_END = 2**63 - 1

MAY_COPY = frozenset(
    {aten.reshape.default, aten.flatten.using_ints, aten.contiguous.default, aten.to.dtype, aten.to.device}
    | {aten.to.dtype_layout, aten.to.other, aten.type_as.default}
)
"""Operators whose schema allows a view or a copy: the traced values tell."""
DROPOUTS = (aten.dropout.default, aten.feature_dropout.default)


def writes_in_place(node: Node) -> bool:
    """Tell whether an operator changes one of its arguments."""
    schema = getattr(node.target, "_schema", None)
    return schema is not None and bool(schema.is_mutable)


def functionalize(exported: ExportedProgram) -> dict[Node, Node | None]:
    """Make every write that can be followed a value of its own, in place of the graph's writes.

    A write that cannot be, such as one into a diagonal or through `out=`, stays as it is.

    Args:
        exported: Traced, with constants marked.

    Returns:
        The placeholders that a call writes, each with the node of the value that it leaves there; None where the write
        could not be followed.
    """
    graph = exported.graph
    if not any(writes_in_place(node) for node in graph.nodes):
        return {}
    memory = _Memory(list(graph.nodes))
    for node in list(graph.nodes):
        if node in memory.writes:
            memory.write(node)
        elif node.op != "placeholder":
            memory.read(node)
    results = graph.output_node().args[0]
    for spec, value in zip(exported.graph_signature.output_specs, results, strict=True):
        if isinstance(value, Node):
            spec.arg.name = value.name
    for node in reversed(memory.writes):
        graph.erase_node(node)
    return memory.left_in_placeholders()


class _Memory:
    """Holds which nodes share memory, and for each the node that has its value at this point of the graph."""

    def __init__(self, nodes: list[Node]) -> None:
        found = [node for node in nodes if writes_in_place(node)]
        sources = {node: _written(node)[0] if writes_in_place(node) else _viewed(node) for node in nodes}
        self.source = {node: source for node, source in sources.items() if source is not None}
        self.unfollowed = {self.base(part) for node in found if not self._follows(node) for part in _written(node)}
        self.writes = dict.fromkeys(node for node in found if self.base(node) not in self.unfollowed)
        self.value = {node: node for node in nodes}
        self.seen = dict.fromkeys(nodes, 0)
        self.version = dict.fromkeys(map(self.base, nodes), 0)

    def base(self, node: Node) -> Node:
        """Find what a view, or a view of a view, is of."""
        while node in self.source:
            node = self.source[node]
        return node

    def read(self, node: Node) -> None:
        """Let a node read the values as they are now."""
        node.args = map_arg(node.args, lambda operand: self.current(operand, node))
        node.kwargs = map_arg(node.kwargs, lambda operand: self.current(operand, node))
        self.seen[node] = self.version[self.base(node)]

    def current(self, node: Node, reader: Node) -> Node:
        """Give the node that has a tensor's value at `reader`; views of what was written are taken anew."""
        now = self.version[self.base(node)]
        if self.seen[node] < now:
            new = self.current(self.source[node], reader)
            if node not in self.writes:  # whose result is what it wrote into
                new = insert_call(reader, node.target, (new, *node.args[1:]), dict(node.kwargs))
            self.value[node], self.seen[node] = new, now
        return self.value[node]

    def write(self, node: Node) -> None:
        """Put what a write computes in the place of the tensor, and of all that it is a view of."""
        chain = [node, _written(node)[0]]
        while chain[-1] in self.source:
            chain.append(self.source[chain[-1]])
        before = [self.current(part, node) for part in chain[1:]]
        self.read(node)
        new = _compute(node)
        now = self.version[chain[-1]] = self.version[chain[-1]] + 1
        for view, part, old in zip(chain, chain[1:], before, strict=False):
            if view not in self.writes:
                new = PUT_BACK[view.target](node, view, old, new)
            self.value[part], self.seen[part] = new, now
        self.value[node], self.seen[node] = self.value[chain[1]], now

    def left_in_placeholders(self) -> dict[Node, Node | None]:
        """Give the values that placeholders have after the call, where it writes them."""
        written = [base for base, version in self.version.items() if version or base in self.unfollowed]
        left = {base: None if base in self.unfollowed else self.value[base] for base in written}
        return {base: value for base, value in left.items() if base.op == "placeholder"}

    def _follows(self, node: Node) -> bool:
        """Whether a write can be made a value: there is such an operator, and each view on the way has an inverse."""
        if not operator_name(node).endswith("_") or _functional(node) is None or len(_written(node)) != 1:
            return False
        view = _written(node)[0]
        while view in self.source:
            if not writes_in_place(view) and (view.target not in PUT_BACK or _open_sizes(self.source[view]) > 1):
                return False
            view = self.source[view]
        return True


def _viewed(node: Node) -> Node | None:
    """Find the tensor whose memory a node's value shares; None where it has its own.

    A constant that forward makes (`torch.tensor([3, 1])`) is a copy, although the trace shows it in the same memory.
    """
    if node.op != "call_function" or not node.all_input_nodes or node.target is aten.lift_fresh_copy.default:
        return None
    source = node.all_input_nodes[0]
    schema = getattr(node.target, "_schema", None)
    is_view = schema is not None and any(result.alias_info is not None for result in schema.returns)
    is_view = is_view or (node.target in DROPOUTS and not node.args[2])  # in eval mode, its argument itself
    if getattr(node.target, "__name__", "") == "getitem" or (is_view and node.target not in MAY_COPY):
        return source
    return source if _memory_of(node) & _memory_of(source) else None


def _memory_of(node: Node) -> set[int]:
    value = node.meta.get("val")
    parts = value if isinstance(value, tuple | list) else [value]
    return {part.untyped_storage()._cdata for part in parts if isinstance(part, Tensor)}


def _written(node: Node) -> list[Node]:
    """List the arguments that an operator changes."""
    found: list[Node] = []
    for position, argument in enumerate(node.target._schema.arguments):  # type: ignore[union-attr]
        if argument.alias_info is None or not argument.alias_info.is_write:
            continue
        value = node.args[position] if position < len(node.args) else node.kwargs.get(argument.name)
        map_arg(value, found.append)
    return found


def _functional(node: Node) -> Any:
    """The operator that computes what `node` writes; None where there is none."""
    packet = getattr(aten, operator_name(node).removesuffix("_"), None)
    return getattr(packet, node.target._overloadname, None)  # type: ignore[union-attr]


def _compute(node: Node) -> Node:
    """Compute what a write puts into its first argument: with that one's shape and type."""
    old = node.args[0]
    assert isinstance(old, Node)
    if node.target is aten.copy_.default:
        new = node.args[1]
        assert isinstance(new, Node)
        return new if _alike(old, new) else insert_call(node, aten.copy.default, (old, new))
    if node.target is aten.fill_.Tensor:
        return _fill(node, old, node.args[1])  # type: ignore[arg-type]
    new = insert_call(node, _functional(node), node.args, dict(node.kwargs))
    if new.meta["val"].dtype != old.meta["val"].dtype:
        new = insert_call(node, aten.to.dtype, (new, old.meta["val"].dtype))
    return new


def _fill(at: Node, like: Node, value: Node) -> Node:
    """Repeat a constant: only the batch size is open in it, so that kernels on codes can join it as one."""
    shape, dtype = like.meta["val"].shape, like.meta["val"].dtype
    sizes = [size if isinstance(size, int) else _size_node(at, like, axis) for axis, size in enumerate(shape)]
    if value.meta["val"].dtype != dtype:
        value = insert_call(at, aten.to.dtype, (value, dtype))
    return insert_call(at, aten.expand.default, (value, sizes))


def _size_node(at: Node, like: Node, axis: int) -> Node:
    """Read an open size, of an input where one has it: what reads a tensor for its size keeps it from being fused."""
    size = str(like.meta["val"].shape[axis])
    inputs = [node for node in at.graph.nodes if "input_name" in node.meta and node.meta["val"].ndim]
    source = next((node for node in inputs if str(node.meta["val"].shape[0]) == size), None)
    return insert_call(at, aten.sym_size.int, (like, axis) if source is None else (source, 0))


def _alike(first: Node, second: Node) -> bool:
    ours, theirs = first.meta["val"], second.meta["val"]
    return bool(ours.dtype == theirs.dtype and str(list(ours.shape)) == str(list(theirs.shape)))


def _put_slice(at: Node, view: Node, source: Node, new: Node) -> Node:
    given: list[Any] = [*view.args[1:], *(0, None, None, 1)[len(view.args) - 1 :]]
    axis, start, end, step = given
    return _put_between(at, source, new, axis, start, end, step)


def _put_row(at: Node, view: Node, source: Node, new: Node) -> Node:
    axis, index = int(view.args[1]), view.args[2]  # type: ignore[arg-type]
    size = source.meta["val"].shape[axis]
    if not isinstance(index, int) or not isinstance(size, int):
        return insert_call(at, aten.select_scatter.default, (source, new, axis, index))
    row = insert_call(at, aten.unsqueeze.default, (new, axis % source.meta["val"].ndim))
    return _put_between(at, source, row, axis, index % size, index % size + 1, 1)


def _put_between(at: Node, source: Node, new: Node, axis: int, start: Any, end: Any, step: int) -> Node:
    """Join what is before a part, the part, and what is behind it."""
    size = source.meta["val"].shape[axis]
    if start in (0, None) and end in (None, TO_THE_END) and step == 1:
        return new
    if step != 1 or not all(isinstance(number, int | None) for number in (size, start, end)):
        return insert_call(at, aten.slice_scatter.default, (source, new, axis, start, end, step))
    first, last, _ = slice(start, end).indices(size)
    last = max(first, last)
    parts = [insert_call(at, aten.slice.Tensor, (source, axis, 0, first))] if first else []
    parts += [new] if last > first else []
    parts += [insert_call(at, aten.slice.Tensor, (source, axis, last, TO_THE_END))] if last < size else []
    return parts[0] if len(parts) == 1 else insert_call(at, aten.cat.default, (parts, axis))


def _put_reshaped(at: Node, view: Node, source: Node, new: Node) -> Node:
    sizes = [size if isinstance(size, int) else -1 for size in source.meta["val"].shape]
    return insert_call(at, aten.reshape.default, (new, sizes))


def _open_sizes(node: Node) -> int:
    return sum(not isinstance(size, int) for size in node.meta["val"].shape)


def _put_permuted(at: Node, view: Node, source: Node, new: Node) -> Node:
    order = [int(axis) % source.meta["val"].ndim for axis in view.args[1]]  # type: ignore[union-attr, arg-type]
    return insert_call(at, aten.permute.default, (new, [order.index(axis) for axis in range(len(order))]))


def _put_transposed(at: Node, view: Node, source: Node, new: Node) -> Node:
    return insert_call(at, view.target, (new, *view.args[1:]))


def _put_same(at: Node, view: Node, source: Node, new: Node) -> Node:
    return new


PutBack = Callable[[Node, Node, Node, Node], Node]
PUT_BACK: Mapping[Any, PutBack] = {
    aten.slice.Tensor: _put_slice,
    aten.select.int: _put_row,
    aten.permute.default: _put_permuted,
    aten.transpose.int: _put_transposed,
    aten.t.default: _put_transposed,
    **dict.fromkeys((aten.detach.default, aten.alias.default, aten.contiguous.default), _put_same),
    **dict.fromkeys(DROPOUTS, _put_same),
    **dict.fromkeys((aten.view.default, aten.reshape.default, aten.flatten.using_ints), _put_reshaped),
    **dict.fromkeys((aten.unflatten.int, aten.squeeze.dim, aten.squeeze.dims), _put_reshaped),
    **dict.fromkeys((aten.squeeze.default, aten.unsqueeze.default), _put_reshaped),
}
"""Views by operator, and how what was written into one comes back into its source: `(at, view, source, new)`."""
