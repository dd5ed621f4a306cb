"""Open files in whatever onnxruntime is importable: `PYTHONPATH=RELEASE python try_release.py FILE.onnx ...`.

Prints the kinds of nodes in the optimized graph, and the sum of the outputs' magnitudes on fixed inputs.
"""

import collections
import sys
import tempfile

import numpy as np
import onnx
import onnxruntime as ort

for path in sys.argv[1:]:
    with tempfile.TemporaryDirectory() as folder:
        options = ort.SessionOptions()
        options.log_severity_level = 4
        if "int8" not in path:
            options.add_session_config_entry("session.disable_quant_qdq", "1")
        options.optimized_model_filepath = f"{folder}/optimized.onnx"
        try:
            session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        except Exception as error:
            print(ort.__version__, path, "refused:", str(error).splitlines()[0][:90])
            continue
        shape = [size if isinstance(size, int) else 2 for size in session.get_inputs()[0].shape]
        images = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
        (output,) = session.run(None, {session.get_inputs()[0].name: images})
        nodes = collections.Counter(node.op_type for node in onnx.load(f"{folder}/optimized.onnx").graph.node)
        print(ort.__version__, path, f"{len(nodes)} kinds, {sum(nodes.values())} nodes, sum {np.abs(output).sum():.6f}")
