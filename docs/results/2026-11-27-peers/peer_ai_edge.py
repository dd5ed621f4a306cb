"""Quantize a float .tflite file with ai-edge-quantizer, in an environment of its own.

    python peer_ai_edge.py FLOAT.tflite CALIBRATION.npy OUT.tflite RECIPE

RECIPE names one of the quantizer's own, such as static_wi8_ai8. Prints one line of JSON.
"""

import json
import sys
import time
from importlib.metadata import version

import numpy as np
from ai_edge_quantizer import quantizer, recipe

source, calibration, target, name = sys.argv[1:]
start, used = time.time(), time.process_time()
own = quantizer.Quantizer(source, getattr(recipe, name)())
statistics = None
if own.need_calibration:
    images = np.load(calibration, mmap_mode="r")
    inputs = [{"input": np.ascontiguousarray(x)} for x in np.split(images, len(images))]
    statistics = own.calibrate({"serving_default": inputs}, num_threads=1)
own.quantize(statistics, serialize_to_path=target)
seconds = {"seconds": time.time() - start, "cpu_seconds": time.process_time() - used}
print(json.dumps(seconds | {"version": version("ai-edge-quantizer")}))
