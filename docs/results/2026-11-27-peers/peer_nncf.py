"""Quantize a float .onnx file with NNCF after training, in an environment of its own.

    python peer_nncf.py FLOAT.onnx CALIBRATION.npy OUT.onnx PRESET FAST

PRESET is performance (symmetric ranges) or mixed (asymmetric activations); FAST is 1 for its fast bias correction, 0
for the full one. Prints one line of JSON at the end.
"""

import json
import sys
import time

import nncf
import numpy as np
import onnx

source, calibration, target, preset, fast = sys.argv[1:]
images = np.load(calibration, mmap_mode="r")
start, used = time.time(), time.process_time()
quantized = nncf.quantize(
    onnx.load(source),
    nncf.Dataset(np.split(images, len(images)), lambda x: {"input": np.ascontiguousarray(x)}),
    preset=nncf.QuantizationPreset(preset),
    target_device=nncf.TargetDevice.CPU,
    subset_size=len(images),
    fast_bias_correction=fast == "1",
)
onnx.save(quantized, target)
seconds = {"seconds": time.time() - start, "cpu_seconds": time.process_time() - used}
print(json.dumps(seconds | {"version": nncf.__version__}))
