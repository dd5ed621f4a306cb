"""Run an int8 file in the installed onnxruntime and count outputs that differ from another release's.

python try_release.py FILE INPUTS.npy OUTPUTS.npy
"""

import sys

import numpy as np
import onnxruntime

file, inputs, expected = sys.argv[1], np.load(sys.argv[2]), np.load(sys.argv[3])
options = onnxruntime.SessionOptions()
options.log_severity_level = 4
options.add_session_config_entry("session.qdq_matmulnbits_accuracy_level", "0")
session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
(found,) = session.run(None, {"input": inputs})
print(onnxruntime.__version__, "outputs that differ:", int((found != expected).sum()), "of", expected.size)
