"""Open one file per opset in the installed onnxruntime and compare with PyTorch's outputs. Needs numpy only.

    python try_release.py FOLDER

FOLDER holds `<opset>.onnx` (export.onnx --opset N), `inputs.npy` and `outputs.npy`.
"""

import sys
from pathlib import Path

import numpy as np
import onnxruntime

folder = Path(sys.argv[1])
inputs, expected = np.load(folder / "inputs.npy"), np.load(folder / "outputs.npy")
row = [onnxruntime.__version__]
for opset in range(13, 24):
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.add_session_config_entry("session.disable_quant_qdq", "1")
    try:
        session = onnxruntime.InferenceSession(
            str(folder / f"{opset}.onnx"), options, providers=["CPUExecutionProvider"]
        )
        row.append(f"{np.abs(session.run(None, {'input': inputs})[0] - expected).max():.0e}")
    except Exception:  # whatever a release raises: the column says that it does
        row.append("refused")
print("  ".join(row))
