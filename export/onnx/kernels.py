"""The fusion report: which kernel each layer of a file became in onnxruntime, and why others stayed float."""

import re
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import onnx
import onnxruntime as ort

from export.onnx.sessions import open_session
from export.program.program import QuantizedActivations
from export.reference.kernel_names import KERNEL_NAMES

INTEGER_PREFIXES = ("QLinear", "QGemm", "MatMulInteger", "ConvInteger", "QAttention")


@dataclass(frozen=True)
class LayerKernel:
    """One layer of a file. `reason` says why it computes in float; empty for an integer kernel."""

    name: str
    operator: str
    kernel: str
    reason: str = ""

    @property
    def is_integer(self) -> bool:
        return is_integer(self.kernel)


def is_integer(kernel: str) -> bool:
    """Whether an operator of onnxruntime's optimized graph computes in integers."""
    return kernel.startswith(INTEGER_PREFIXES)


def open_optimized(
    model: Path | bytes, options: ort.SessionOptions, source: Path
) -> tuple[ort.InferenceSession, dict[str, str]]:
    """Open a file and look at what onnxruntime made of it.

    Returns:
        The session, and node name to operator of the optimized graph. A fused node goes by the name of its main node.

    Raises:
        ExportError: onnxruntime cannot open it.
    """
    with tempfile.TemporaryDirectory() as folder:
        optimized = Path(folder) / "optimized.onnx"
        options.optimized_model_filepath = str(optimized)
        options.add_session_config_entry("session.optimized_model_external_initializers_file_name", "weights")
        options.add_session_config_entry("session.optimized_model_external_initializers_min_size_in_bytes", "64")
        session = open_session(model, options, source)
        graph = onnx.load(optimized, load_external_data=False).graph
    return session, {re.sub(r"_token_\d+$", "", node.name): node.op_type for node in graph.node}


def report_kernels(activations: QuantizedActivations, nodes: Mapping[str, str]) -> tuple[LayerKernel, ...]:
    """Match a program's layers with the nodes of the optimized graph, in the program's order."""
    rows = []
    for layer in activations.layers:
        kernel = nodes.get(layer.name, "none")
        reason = "" if is_integer(kernel) else f"onnxruntime made no {KERNEL_NAMES[layer.kind]} of it"
        rows.append(LayerKernel(layer.name, layer.operator, kernel, reason))
    rows += [LayerKernel(item.name, item.operator, "float", item.reason) for item in activations.float_layers]
    return tuple(rows)
