"""The fusion report says which kernel each layer of a file became in onnxruntime, and why others stayed float."""

import re
import tempfile
from collections.abc import Mapping
from pathlib import Path

import onnx
import onnxruntime as ort

from codeq.activations.rules import IntegerKind
from export.onnx.kernel_names import KERNEL_NAMES
from export.onnx.sessions import file_options, load_model, open_session, read_metadata, session_options
from export.parity.checks import LayerKernel
from export.program.program import ActivationRecord, ReferenceProgram

EXACT_KERNELS = frozenset(
    {
        "QLinearConv",
        "QGemm",
        "QLinearMatMul",
        "QLinearAdd",
        "QLinearMul",
        "QLinearGlobalAveragePool",
        "QuantizeLinear",
    }
)
"""Kernels whose rule the integer reference follows bit for bit."""
FLOAT_KERNELS: Mapping[IntegerKind, str] = {
    "transposed_convolution": "onnxruntime computes it in float, with the exact weight, between codes",
    "bilinear_resize": "it mixes pixels as floats, between codes",
}
"""Why a kind that `KERNEL_NAMES` has no name for stays float."""
INTEGER_PREFIXES = ("QLinear", "QGemm", "MatMulInteger", "ConvInteger", "QAttention")


def is_integer(kernel: str) -> bool:
    """Say whether an operator of onnxruntime's optimized graph computes in integers."""
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


def report_kernels(activations: ActivationRecord, nodes: Mapping[str, str]) -> tuple[LayerKernel, ...]:
    """Match a program's layers with the nodes of the optimized graph, in the program's order."""
    rows = []
    for layer in activations.layers:
        wanted = KERNEL_NAMES[layer.kind]
        kernel = nodes.get(layer.name, "none") if wanted else "float"
        reason = f"onnxruntime made no {wanted} of it" if wanted else FLOAT_KERNELS[layer.kind]
        rows.append(LayerKernel(layer.name, layer.operator, kernel, "" if is_integer(kernel) else reason))
    rows += [LayerKernel(item.name, item.operator, "float", item.reason) for item in activations.float_layers]
    return tuple(rows)


def kernels_of(path: Path, program: ReferenceProgram) -> dict[str, str]:
    """Say what onnxruntime makes of each quantized layer of a file of ours, at its default level.

    Raises:
        ExportError: onnxruntime cannot open it.
    """
    assert program.activations is not None
    entries = file_options(read_metadata(load_model(path), path))
    _, nodes = open_optimized(path, session_options("enable_all", entries=entries), path)
    return {layer.name: layer.kernel for layer in report_kernels(program.activations, nodes)}
