#!/usr/bin/env python3
"""Run files on a device and save all that they compute, to be judged where their checkpoint is.

    python3 on_device.py inputs.npz results.npz probe.onnx int8.onnx

NumPy, and onnxruntime or LiteRT (ai_edge_litert, or tflite_runtime), are all that this file needs. CODEQ_CPU names a
processor that it cannot tell by itself, such as an emulated one: x86, x86-sse, arm or wasm.
"""

import hashlib
import json
import os
import platform
import sys

import numpy as np


def open_onnx(path, count):
    import onnxruntime

    def open_with(entries):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.log_severity_level = 3
        for key, value in entries.items():
            options.add_session_config_entry(key, value)
        return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])

    metadata = open_with({}).get_modelmeta().custom_metadata_map
    session = open_with(json.loads(metadata["codeq"])["session_options"])  # without them a file computes otherwise
    names = [item.name for item in session.get_inputs()]
    return "onnxruntime", onnxruntime.__version__, lambda batch: session.run(None, dict(zip(names, batch)))


def open_tflm(path, count):
    from tflite_micro.python.tflite_micro import runtime

    interpreter = runtime.Interpreter.from_file(path, arena_size=int(os.environ.get("CODEQ_ARENA", "16000000")))

    def run_one(batch):
        for place, array in enumerate(batch):
            interpreter.set_input(array, place)
        interpreter.invoke()
        return [np.array(interpreter.get_output(place)) for place in range(count)]

    def run(batch):
        rows = [run_one([array[i : i + 1] for array in batch]) for i in range(len(batch[0]))]
        return [np.concatenate(parts) for parts in zip(*rows)]

    return "TFLite Micro", version_of("tflite-micro"), run


def open_tflite(path, count):
    if os.environ.get("CODEQ_CPU") == "tflm":
        return open_tflm(path, count)
    try:
        import ai_edge_litert as package
        from ai_edge_litert.interpreter import Interpreter
    except ImportError:
        import tflite_runtime as package
        from tflite_runtime.interpreter import Interpreter
    interpreter = Interpreter(model_path=path, num_threads=1)

    def run(batch):
        inputs = interpreter.get_input_details()
        for detail, array in zip(inputs, batch):
            interpreter.resize_tensor_input(detail["index"], array.shape)
        interpreter.allocate_tensors()
        for detail, array in zip(inputs, batch):
            interpreter.set_tensor(detail["index"], array)
        interpreter.invoke()
        return [interpreter.get_tensor(detail["index"]) for detail in interpreter.get_output_details()]

    return "LiteRT", getattr(package, "__version__", "of unknown version"), run


def version_of(package):
    try:
        from importlib.metadata import version

        return version(package)
    except ImportError:  # an old Python, or no such package
        return "of unknown version"


def processor():
    machine = platform.machine().lower()
    if machine in ("aarch64", "arm64"):
        return "arm"
    if machine not in ("x86_64", "amd64"):
        return machine
    with open("/proc/cpuinfo") if os.path.exists("/proc/cpuinfo") else open(os.devnull) as file:
        text = file.read()
    return "x86-sse" if "flags" in text and " fma " not in text else "x86"


def main(inputs, results, *paths):
    stored = np.load(inputs)
    batches, expected = {}, {}
    for key in sorted(set(stored.files) - {"about"}):
        if key.startswith("expected."):
            expected[key[len("expected.") :]] = stored[key]
        else:
            batches.setdefault(key.partition(".")[0], []).append(stored[key])
    about = {"format": 1, "cpu": os.environ.get("CODEQ_CPU") or processor(), "platform": platform.platform()}
    about.update(python=platform.python_version(), numpy=np.__version__, inputs=json.loads(str(stored["about"])))
    about["batches"] = {
        name: hashlib.sha256(b"".join(array.tobytes() for array in batch)).hexdigest()
        for name, batch in batches.items()
    }
    about["files"] = []
    arrays, compared, off = {}, 0, 0
    for number, path in enumerate(paths):
        with open(path, "rb") as file:
            digest = hashlib.sha256(file.read()).hexdigest()
        count = about["inputs"]["outputs"].get(digest, 1)  # which TFLite Micro cannot say
        runtime, version, run = (open_tflite if path.endswith(".tflite") else open_onnx)(path, count)
        about["files"].append(
            {"name": os.path.basename(path), "sha256": digest, "runtime": runtime, "version": version}
        )
        for name, batch in batches.items():
            for place, array in enumerate(run(batch)):
                arrays["{}.{}.{}".format(number, name, place)] = array
                wanted = expected.get("{}.{}".format(name, place))
                if wanted is not None and place >= about["inputs"]["plain"]:
                    compared, off = compared + wanted.size, off + np.count_nonzero(wanted != array)
        print("{}: {} batches in {} {}".format(path, len(batches), runtime, version))
    np.savez_compressed(results, about=np.array(json.dumps(about)), **arrays)
    if compared:
        print("{} of {} codes differ from those expected of {}".format(off, compared, about["inputs"]["expected"]))
    return 1 if off else 0


if __name__ == "__main__":
    if len(sys.argv) < 4:
        sys.stderr.write(__doc__)
        sys.exit(2)
    try:
        sys.exit(main(*sys.argv[1:]))
    except (OSError, ImportError) as error:  # a file or a runtime that is not there
        sys.stderr.write("error: {}\n".format(error))
        sys.exit(2)
