"""Distil ResNet-20 for CIFAR-10 at 4 bits and 75 % zeros on few and on many unlabelled inputs, and judge it on others.

    python docs/results/2026-11-27-distillation/resnet20.py cifar10-jpeg.tar.xz resnet20_cifar10_float.pt

Calibration: 256 of the first 400 training images of each class; further inputs: 2,744 others of them, without their
labels; test: the first 200 test images of each class. Seed 0, one thread.
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
from codeq.training.init_weights import load_init

WANTED = {"train": 400, "test": 200}


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
unlabelled, (x, labels) = data["train"][0][order], data["test"]
network = models.create("resnet20", in_channels=3, num_classes=10)
load_init(network, sys.argv[2])
wanted = answers(network)
print(f"codeq {codeq.__version__}, torch {torch.__version__}, one thread")
print(f"float: top-1 {float((wanted.argmax(1) == labels).double().mean()):.2%}", flush=True)
for epochs, further in ((0, None), (20, None), (4, unlabelled[256:3000]), (12, unlabelled[256:3000])):
    model, start = copy.deepcopy(network), time.process_time()
    report = compress(model, unlabelled[:256], bits=4, zeros=0.75, distill=epochs, distill_inputs=further)
    seconds, found = time.process_time() - start, answers(model)
    noise = float(10 * torch.log10(wanted.square().sum() / (wanted - found).square().sum()))
    top1 = float((found.argmax(1) == labels).double().mean())
    inputs = 224 + (0 if further is None else len(further))
    print(
        f"{epochs} epochs, {inputs} inputs: top-1 {top1:.2%}, {noise:.2f} dB, {seconds:.0f} CPU s; {report.distilled}"
    )
    sys.stdout.flush()
