"""Codecs that store tensors alike are told apart by what their decoders do."""

import numpy as np
import pytest
from onnx import TensorProto, helper

from export.metadata import FileMetadata
from export.onnx.inspect import _name_storage
from export.onnx.storage.part import make_tensors, part_nodes
from export.onnx.storage.plan import Candidate, storage_candidates
from export.onnx.storage.target import TARGETS
from export.onnx.storage.weight import CodedWeight

OPSET = 21


def fields(candidate: Candidate) -> list[tuple[int, tuple[int, ...]]]:
    assert candidate.part is not None
    return sorted((field.data_type, field.dims) for field in candidate.part.fields)


@pytest.mark.parametrize("target", list(TARGETS))
@pytest.mark.parametrize("codec", ["golomb 3 + 4-bit", "golomb 6 + 4-bit"])
def test_a_codec_is_named_by_its_calls(codec: str, target: str) -> None:
    rng = np.random.default_rng(56)
    zeros = rng.uniform(0.5, 0.95)
    codes = (rng.integers(-7, 8, (10, 64)) * (rng.random((10, 64)) > zeros)).astype(np.int8)
    weight, runtime = CodedWeight(codes), TARGETS[target]
    found = {item.codec: item for item in storage_candidates(weight, "w", "packed", runtime, OPSET, "0")}
    assert fields(found["golomb 3 + 4-bit"]) == fields(found["golomb 6 + 4-bit"])  # their tensors do not tell
    part = found[codec].part
    assert part is not None
    nodes = part_nodes(part, "0", "w", functions=runtime.functions)
    output = helper.make_tensor_value_info("w", TensorProto.INT8, codes.shape)
    graph = helper.make_graph(nodes, "g", [], [output], make_tensors(part, weight, "0", "w"))
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)])
    metadata = FileMetadata((), None, {}, {}, storage="packed", target=target)
    assert _name_storage(model, "w", weight, metadata, OPSET, "0")[0] == codec
