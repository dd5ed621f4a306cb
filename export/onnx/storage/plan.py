"""The planner chooses for each weight the form that costs least, by formula, before anything is encoded.

The cost is the bytes in the file, and for `packed` also what the decoder computes when a session is created. Positions
and levels combine freely, and their bytes add. A decoder's function is stored once a file; it is used only if all that
it saves is more than its own bytes.
"""

from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass

from onnx import NodeProto

from export.onnx.storage.bitmask import bitmask_part
from export.onnx.storage.bits import SHARED
from export.onnx.storage.constant import constant_part
from export.onnx.storage.decoder import function_proto, required_functions
from export.onnx.storage.dense import dense_native_part, dense_part, dense_width_parts
from export.onnx.storage.fixed_width import fixed_width_parts
from export.onnx.storage.gaps import WIDTHS, gaps_part
from export.onnx.storage.golomb import STEPS, golomb_part
from export.onnx.storage.kinds import PACKING, Storage
from export.onnx.storage.magnitude_planes import best_radices, magnitude_planes_part
from export.onnx.storage.part import Part, call_nodes, functions_bytes, message_bytes, part_bytes, part_nodes
from export.onnx.storage.sparse_initializer import sparse_initializer_bytes
from export.onnx.storage.target import Target
from export.onnx.storage.two_level_mask import BLOCK_SIZES, two_level_mask_part
from export.onnx.storage.weight import CodedWeight

SPARSE = "sparse_initializer"
DENSE = "dense"
TRANSIENT_PRICE = {"packed": 1 / 512}
"""Bytes of the file that one transient byte of a decoder counts as, for each storage; 0 where nothing is said.

Creating a session takes time and memory in proportion to what decoders compute on the way. At this price files are
within a few percent of the smallest ones, for about half of that."""


@dataclass(frozen=True)
class Candidate:
    """Describes one way to store one weight. `part` is None for the standard's `sparse_initializer`.

    `size_bytes` are those of its tensors and nodes in the file. `once` is what the file must hold for it once: names of
    decoder functions and shared roles. `operators` are those of ONNX that its decoder comes down to.
    """

    codec: str
    size_bytes: int
    part: Part | None
    once: frozenset[str]
    transient_bytes: int = 0
    operators: frozenset[str] = frozenset()

    def cost(self, storage: Storage) -> float:
        """Say what the planner minimizes, in bytes of the file."""
        return self.size_bytes + TRANSIENT_PRICE.get(storage, 0) * self.transient_bytes


@dataclass(frozen=True)
class Choice:
    """Says what the planner took for one weight, and why: the next best form, and its bytes.

    `prefix` is of the names of its tensors.
    """

    codec: str
    size_bytes: int
    part: Part | None
    prefix: str
    transient_bytes: int
    reason: str


@dataclass(frozen=True)
class StoragePlan:
    """Choices by the name of the codes in the graph; the decoder functions and shared calls that they need, in order,
    and their bytes."""

    target: Target
    choices: Mapping[str, Choice]
    functions: tuple[str, ...]
    shared: tuple[NodeProto, ...]
    once_bytes: int

    def moves(self, name: str) -> bool:
        """Say whether a weight is stored as anything but the dense initializer of its name."""
        return name in self.choices and self.choices[name].codec != DENSE

    @property
    def transient_bytes(self) -> int:
        """Say what onnxruntime computes, and keeps for a while, when it creates a session."""
        return sum(choice.transient_bytes for choice in self.choices.values())

    @property
    def size_bytes(self) -> int:
        """Add up the bytes of all weights with their decoders."""
        return sum(choice.size_bytes for choice in self.choices.values()) + self.once_bytes


def plan_storage(weights: Mapping[str, CodedWeight], storage: Storage, target: Target, opset: int) -> StoragePlan:
    """Choose for every weight.

    Args:
        weights: By the name of the codes in the graph.
        storage: "dense", "sparse", "auto" (the smaller of the two, each weight), "packed" (the cheapest of all) or
            "smallest" (the fewest bytes of all).
        target: What may be used.
        opset: Of the file.

    Returns:
        A choice for every weight. Which decoders the file holds is found by a local search.
    """
    prefixes = {name: str(index) for index, name in enumerate(weights)}
    options = {
        name: storage_candidates(weight, name, storage, target, opset, prefixes[name])
        for name, weight in weights.items()
    }
    every = frozenset[str]().union(*(item.once for candidates in options.values() for item in candidates))

    def choose(dropped: frozenset[str]) -> tuple[float, dict[str, Candidate]]:
        """The cheapest candidate of every weight that needs nothing of what is dropped, and the cost of all."""
        chosen = {
            name: min((item for item in candidates if not item.once & dropped), key=lambda item: item.cost(storage))
            for name, candidates in options.items()
        }
        return sum(item.cost(storage) for item in chosen.values()) + _once_bytes(_once(chosen), target, opset), chosen

    def descend(dropped: frozenset[str]) -> tuple[float, dict[str, Candidate]]:
        """A decoder that serves a few small weights may cost more than it saves: drop them one by one."""
        total, chosen = choose(dropped)
        while True:
            trials = [(*choose(dropped | {name}), name) for name in sorted(_once(chosen))]
            smaller = min((trial for trial in trials if trial[0] < total), key=lambda trial: trial[0], default=None)
            if smaller is None:
                return total, chosen
            total, chosen, name = smaller
            dropped |= {name}

    # Begin with all decoders, and with the best single combination, which may be none: weights can be few and small.
    sets = {item.once for candidates in options.values() for item in candidates} | {frozenset[str]()}
    single = min(sorted(sets, key=sorted), key=lambda once: choose(every - once)[0])
    _, chosen = min((descend(start) for start in (frozenset[str](), every - single)), key=lambda found: found[0])
    once = _once(chosen)
    choices = {
        name: Choice(
            codec=best.codec,
            size_bytes=best.size_bytes,
            part=best.part,
            prefix=prefixes[name],
            transient_bytes=best.transient_bytes,
            reason=runner_up(best, options[name], storage),
        )
        for name, best in chosen.items()
    }
    functions = tuple(sorted(once - SHARED.keys()))
    shared = tuple(_shared_nodes(once & SHARED.keys(), functions=target.functions))
    return StoragePlan(target, choices, functions, shared, _once_bytes(once, target, opset))


def storage_candidates(
    weight: CodedWeight, name: str, storage: Storage, target: Target, opset: int, prefix: str
) -> list[Candidate]:
    """List every way to store a weight that a storage and a target allow; never empty.

    Args:
        weight: What to store.
        name: Of the codes in the graph.
        storage, target, opset: As for `plan_storage`.
        prefix: Of the names of the weight's tensors.
    """

    def build(part: Part) -> Candidate:
        return _candidate(part, name, prefix, functions=target.functions)

    sparse = Candidate(SPARSE, sparse_initializer_bytes(weight, name), None, frozenset())
    if storage == "sparse" and target.sparse_initializers:
        return [sparse]
    candidates = [build(dense_part(weight))]
    if target.sparse_initializers and storage != "dense":
        candidates.append(sparse)
    if storage in PACKING and weight.numel:
        candidates += [build(part) for part in _packed_parts(weight, opset)]
        if weight.nnz:
            positions = [build(part) for part in _position_parts(weight)]
            levels = [build(part) for part in _level_parts(weight)]
            candidates += [_pair(level, position) for level in levels for position in positions]
    return [item for item in candidates if not item.operators & target.excluded_operators]


def _packed_parts(weight: CodedWeight, opset: int) -> Iterator[Part]:
    if weight.alphabet.size == 1:
        yield constant_part(weight)
    yield from dense_width_parts(weight)
    native = dense_native_part(weight, opset)
    if native is not None:
        yield native


def _position_parts(weight: CodedWeight) -> Iterator[Part]:
    yield bitmask_part(weight)
    yield from (two_level_mask_part(weight, block) for block in BLOCK_SIZES)
    yield from (gaps_part(weight, width) for width in WIDTHS)
    yield from (golomb_part(weight, step) for step in STEPS)


def _level_parts(weight: CodedWeight) -> Iterator[Part]:
    yield from fixed_width_parts(weight)
    yield from (magnitude_planes_part(weight, radices) for radices in best_radices(weight))


def _candidate(part: Part, name: str, prefix: str, *, functions: bool) -> Candidate:
    roles = {role for call in part.calls for role in call.inputs if role in SHARED}
    roles |= {role for shared in roles for role in SHARED[shared].inputs}
    nodes = part_nodes(part, prefix, name, functions=functions) + _shared_nodes(roles, functions=functions)
    return Candidate(
        codec=part.codec,
        size_bytes=part_bytes(part, prefix, name, functions=functions),
        part=part,
        once=frozenset(required_functions(nodes)) | roles,
        transient_bytes=part.transient_bytes,
        operators=frozenset(node.op_type for node in part_nodes(part, prefix, name, functions=False)),
    )


def _pair(levels: Candidate, positions: Candidate) -> Candidate:
    assert levels.part is not None
    assert positions.part is not None
    part = levels.part + positions.part
    return Candidate(
        codec=part.codec,
        size_bytes=levels.size_bytes + positions.size_bytes,
        part=part,
        once=levels.once | positions.once,
        transient_bytes=part.transient_bytes,
        operators=levels.operators | positions.operators,
    )


def _once(chosen: Mapping[str, Candidate]) -> frozenset[str]:
    return frozenset[str]().union(*(candidate.once for candidate in chosen.values()))


def _once_bytes(once: frozenset[str], target: Target, opset: int) -> int:
    functions = [function_proto(name, opset) for name in once - SHARED.keys()]
    nodes = _shared_nodes(once & SHARED.keys(), functions=target.functions)
    return functions_bytes(functions) + message_bytes(nodes)


def _shared_nodes(roles: Set[str], *, functions: bool) -> list[NodeProto]:
    calls = [call for role, call in SHARED.items() if role in roles]
    return [node for call in calls for node in call_nodes(call, "", "", functions=functions)]


def runner_up(best: Candidate, candidates: Sequence[Candidate], storage: Storage) -> str:
    """Why a candidate was taken: the next best one, and how many bytes more it is."""
    others = [item for item in candidates if item.codec != best.codec]
    if not others:
        return f"asked for by --storage {storage}"
    other = min(others, key=lambda item: item.cost(storage))
    # A smaller one that was not taken computes more when a session is created, or needs functions of its own.
    but = ", but more to decode" if other.size_bytes < best.size_bytes else ""
    return f"next: {other.codec}, {other.size_bytes / best.size_bytes - 1:+.1%}{but}"
