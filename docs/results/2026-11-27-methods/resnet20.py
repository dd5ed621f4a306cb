"""Compress ResNet-20 for CIFAR-10 by every method, and judge the network on test images.

    python docs/results/2026-11-27-methods/resnet20.py cifar10-jpeg.tar.xz resnet20_cifar10_float.pt

Calibration: 256 of the first 50 training images of each class; test: the first 200 test images of each class.
"""

import copy
import io
import sys
import tarfile
import time

import numpy as np
import torch
from PIL import Image

import codeq
import models
from codeq.compress import compress
from codeq.compress.pick import METHODS
from codeq.training.init_weights import load_init

WANTED = {"train": 50, "test": 200}
CHOICES = ((4, 0.0), (4, 0.5), (4, 0.75), (2, 0.0))


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


@torch.no_grad()
def answers(model: torch.nn.Module) -> torch.Tensor:
    return torch.cat([model.eval()(part) for part in x.split(200)])


torch.set_num_threads(1)
data = load(sys.argv[1])
order = torch.randperm(len(data["train"][0]), generator=torch.Generator().manual_seed(0))
calibration, (x, labels) = data["train"][0][order[:256]], data["test"]
network = models.create("resnet20", in_channels=3, num_classes=10)
load_init(network, sys.argv[2])
wanted = answers(network)
print(f"codeq {codeq.__version__}, torch {torch.__version__}, one thread")
print(f"float: top-1 {float((wanted.argmax(1) == labels).double().mean()):.2%}", flush=True)
for bits, zeros in CHOICES:
    for name in METHODS:
        model, start = copy.deepcopy(network), time.process_time()
        report = compress(model, calibration, bits=bits, zeros=zeros, method=name)
        seconds = time.process_time() - start
        found = answers(model)
        noise = float(10 * torch.log10(wanted.square().sum() / (wanted - found).square().sum()))
        print(
            f"{bits} bits, {zeros:.0%}: {name:10} top-1 {float((found.argmax(1) == labels).double().mean()):.2%}, "
            f"{noise:.1f} dB, bound {report.entropy_bytes / 1000:.1f} kB, {seconds:.0f} CPU s",
            flush=True,
        )
