"""Store weights as the standard's `sparse_initializer` where that is smaller.

A sparse int8 initializer holds one byte and one int64 linear index per non-zero code (onnx.checker demands int64),
so it pays above 8/9 zeros. onnxruntime turns it into the dense tensor when the session is created. The last step of an
export: onnx-ir drops sparse initializers on a round trip, and onnx's full checker knows no sparse input.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import onnx
from onnx import numpy_helper

Storage = Literal["auto", "dense", "sparse"]
STORAGES: tuple[Storage, ...] = ("auto", "dense", "sparse")


@dataclass(frozen=True)
class StoredWeight:
    """How one weight's codes are in the file: "dense" or "sparse_initializer", and the bytes they take there."""

    storage: str
    size_bytes: int


def sparsify_initializers(graph: onnx.GraphProto, names: list[str], storage: Storage) -> dict[str, StoredWeight]:
    """Move initializers to `sparse_initializer`, in place.

    Before: initializer W            After: sparse_initializer W, the same values

    Args:
        graph: Changed in place.
        names: int8 initializers that may move.
        storage: "auto" moves those that become smaller, "sparse" all, "dense" none.

    Returns:
        Initializer name to what became of it.
    """
    stored = {}
    moved = set()
    initializers = {tensor.name: tensor for tensor in graph.initializer}
    for name in names:
        dense = initializers[name]
        stored[name] = StoredWeight("dense", dense.ByteSize())
        if storage == "dense" or (storage == "auto" and not _could_pay(dense)):
            continue
        sparse = to_sparse(dense)
        if storage == "sparse" or sparse.ByteSize() < dense.ByteSize():
            graph.sparse_initializer.append(sparse)
            moved.add(name)
            stored[name] = StoredWeight("sparse_initializer", sparse.ByteSize())
    kept = [tensor for tensor in graph.initializer if tensor.name not in moved]
    del graph.initializer[:]
    graph.initializer.extend(kept)
    return stored


def to_sparse(dense: onnx.TensorProto) -> onnx.SparseTensorProto:
    """The COO form of a tensor with linear indices, ascending (ONNX IR specification, SparseTensorProto)."""
    flat = numpy_helper.to_array(dense).reshape(-1)
    indices = np.flatnonzero(flat)
    # onnx.checker and onnxruntime want at least one entry: an all-zero tensor keeps an explicit zero.
    if not len(indices):
        indices = np.zeros(1, np.int64)
    return onnx.SparseTensorProto(
        values=numpy_helper.from_array(flat[indices], dense.name),
        indices=numpy_helper.from_array(indices.astype(np.int64), ""),
        dims=dense.dims,
    )


def _could_pay(dense: onnx.TensorProto) -> bool:
    """Skip the conversion where even its payload is larger: 9 bytes per non-zero against 1 per weight."""
    codes = np.frombuffer(dense.raw_data, np.int8) if dense.raw_data else numpy_helper.to_array(dense).reshape(-1)
    return 9 * int(np.count_nonzero(codes)) < codes.size
