"""This module writes a sparse weight in the ONNX standard's own form, a graph's `sparse_initializer`.

It holds one byte and one int64 linear index for each non-zero code (onnx.checker demands int64), so it pays above 8/9
zeros. onnxruntime turns it into the dense tensor when the session is created.
"""

import numpy as np
import onnx
from onnx import TensorProto

from export.onnx.storage.part import delimited_bytes
from export.onnx.storage.weight import CodedWeight


def sparse_initializer(weight: CodedWeight, name: str) -> onnx.SparseTensorProto:
    """Write the COO form with linear indices, ascending (ONNX IR specification, SparseTensorProto)."""
    indices = _indices(weight)
    return onnx.SparseTensorProto(
        values=TensorProto(
            name=name, data_type=TensorProto.INT8, dims=[indices.size], raw_data=weight.flat[indices].tobytes()
        ),
        indices=TensorProto(data_type=TensorProto.INT64, dims=[indices.size], raw_data=indices.tobytes()),
        dims=weight.shape,
    )


def sparse_initializer_bytes(weight: CodedWeight, name: str) -> int:
    """9 * nnz bytes and what protobuf adds, exactly."""
    count = max(weight.nnz, 1)
    empty = [
        TensorProto(name=name, data_type=TensorProto.INT8, dims=[count]),
        TensorProto(data_type=TensorProto.INT64, dims=[count]),
    ]
    tensors = [
        delimited_bytes(tensor.ByteSize() + delimited_bytes(count * size))
        for tensor, size in zip(empty, (1, 8), strict=True)
    ]
    dims = onnx.SparseTensorProto(dims=weight.shape).ByteSize()
    return delimited_bytes(sum(tensors) + dims)


def _indices(weight: CodedWeight) -> np.ndarray:
    indices = np.flatnonzero(weight.flat)
    # onnx.checker and onnxruntime want at least one entry: an all-zero tensor keeps an explicit zero.
    return indices.astype(np.int64) if indices.size else np.zeros(1, np.int64)
