"""A probe is a file that shows its codes: its quantized tensors come behind its outputs."""

from collections.abc import Sequence
from pathlib import Path

import onnx

from export.errors import ExportError


def with_codes(proto: onnx.ModelProto, names: Sequence[str], source: Path) -> bytes:
    """Serialize a file with some of its tensors of codes as further outputs.

    Args:
        proto: The file. Not changed.
        names: Of the tensors.
        source: For messages.

    Raises:
        ExportError: It has no such tensor.
    """
    made = {output for node in proto.graph.node for output in node.output}
    missing = [name for name in names if name not in made]
    if missing:
        raise ExportError(f"{source}: has no tensor {missing[0]!r}; was it changed after the export?")
    probe = onnx.ModelProto()
    probe.CopyFrom(proto)
    probe.graph.output.extend(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.UINT8, None) for name in names)
    return bytes(probe.SerializeToString())
