"""Small ONNX graphs from text, and what onnxruntime computes with them."""

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort

HEADER = '<ir_version: 8, opset_import: ["" : 13]>'


def model(text: str) -> ir.Model:
    return ir.from_proto(onnx.parser.parse_model(HEADER + text))


def run(graph: ir.Model, x: np.ndarray) -> np.ndarray:
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(ir.to_proto(graph).SerializeToString(), options, providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {"x": x})[0])
