"""A session as somebody opens it who has onnxruntime alone: with the options that the file's metadata names."""

import json
from pathlib import Path

import onnx
import onnxruntime as ort


def stock_session(path: Path) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.log_severity_level = 3
    props = {entry.key: entry.value for entry in onnx.load(path, load_external_data=False).metadata_props}
    for key, value in json.loads(props["codeq"])["session_options"].items():
        options.add_session_config_entry(key, value)
    return ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
