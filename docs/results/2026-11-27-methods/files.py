"""Compress ResNet-20 for CIFAR-10 by every method at many bits and zeros, export each, and judge the files themselves.

    python docs/results/2026-11-27-methods/files.py cifar10-jpeg.tar.xz resnet20_cifar10_float.pt OUT

Calibration: 256 of the first 50 training images of each class; test: the first 200 test images of each class. Each file
is an int8 .onnx in the smallest storage; an export writes none unless parity holds. One JSON line for each; lines that
are in OUT/files.jsonl already are not computed again.
"""

import contextlib
import copy
import io
import json
import sys
import tarfile
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image

import codeq
import models
from codeq.compress import compress
from codeq.compress.pick import METHODS
from codeq.training.init_weights import load_init
from export import export_onnx
from export.backend import backend_of
from export.runner import run_batches

WANTED = {"train": 50, "test": 200}
BITS, ZEROS = (8, 4, 3, 2), (0.0, 0.5, 0.75)


def load(path: str) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    images: dict[str, dict[str, list[np.ndarray]]] = {split: {} for split in WANTED}
    with tarfile.open(path) as archive:
        for member in archive:
            if not member.name.endswith(".jpg"):
                continue
            split, label = member.name.split("/")[-3:-1]
            found = images[split].setdefault(label, [])
            file = archive.extractfile(member) if len(found) < WANTED[split] else None
            if file is not None:
                found.append(np.asarray(Image.open(io.BytesIO(file.read())).convert("RGB")))
    mean, std = (torch.tensor(v).reshape(3, 1, 1) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    result = {}
    for split, by_label in images.items():
        stacked = np.stack([image for label in sorted(by_label) for image in by_label[label]])
        x = (torch.from_numpy(stacked).permute(0, 3, 1, 2) / 255 - mean) / std
        result[split] = (x, torch.arange(len(by_label)).repeat_interleave(WANTED[split]))
    return result


def count(codes: torch.Tensor) -> tuple[int, int]:
    return int((codes == 0).sum()), codes.numel()


def main() -> None:
    torch.set_num_threads(1)
    out = Path(sys.argv[3])
    out.mkdir(exist_ok=True)
    lines = out / "files.jsonl"
    done = set()
    if lines.exists():
        done = {tuple(json.loads(line)[key] for key in ("bits", "zeros", "method")) for line in lines.open()}
    data = load(sys.argv[1])
    order = torch.randperm(len(data["train"][0]), generator=torch.Generator().manual_seed(0))
    calibration, (x, labels) = data["train"][0][order[:256]], data["test"]
    network = models.create("resnet20", in_channels=3, num_classes=10)
    load_init(network, sys.argv[2])
    network.eval()
    with torch.no_grad():
        wanted = torch.cat([network(part) for part in x.split(200)])
    for bits in BITS:
        for zeros in ZEROS:
            for name in ["rounding"] if (bits, zeros) == (8, 0.0) else METHODS:
                if (name == "spfq_sign" and (bits, zeros) != (2, 0.0)) or (bits, zeros, name) in done:
                    continue
                model, start = copy.deepcopy(network), time.process_time()
                report = compress(model, calibration, bits=bits, zeros=zeros, method=name)
                seconds = time.process_time() - start
                path = out / f"{name}-{bits}-{zeros:.0%}.onnx".replace("%", "")
                with contextlib.redirect_stdout(io.StringIO()):
                    export_onnx(
                        model, (x[:2],), path, activations="int8", calibration=calibration[:64], storage="smallest",
                        check_inputs=(calibration[:8],), force=True,
                    )  # fmt: skip
                runner = backend_of(path).open_runner(path, threads=1)
                runner.open()
                found = torch.from_numpy(run_batches(runner, (x,), 200)[0])
                noise = float(10 * torch.log10(wanted.square().sum() / (wanted - found).square().sum()))
                codes = codeq.encode(model).values()
                zero, entries = (sum(counts) for counts in zip(*(count(c.codes) for c in codes), strict=True))
                row = {"bits": bits, "zeros": zeros, "method": name, "decibels": noise, "sparsity": zero / entries}
                row |= {"top1": float((found.argmax(1) == labels).float().mean()), "cpu_seconds": seconds}
                row |= {"bytes": path.stat().st_size, "bound": report.entropy_bytes}
                with lines.open("a") as file:
                    file.write(json.dumps(row) + "\n")
                path.unlink()


if __name__ == "__main__":
    main()
