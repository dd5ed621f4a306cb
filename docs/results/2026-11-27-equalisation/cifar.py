"""Equalise networks for CIFAR-10 as JPEG copies, with relus between their layers.

    python cifar.py cifar10-jpeg.tar.xz resnet20 resnet20_cifar10_float.pt
    python cifar.py cifar10-jpeg.tar.xz mobilenet_v1 mobilenet_v1.pt     # trained by this script if it is not there
    python cifar.py cifar10-jpeg.tar.xz mobilenet_v1 mobilenet_v1.pt folded    # BatchNorms folded into the layers first

Calibration: 256 training images; test: the first 100 test images of each class.
"""

import io
import sys
import tarfile
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from study import ALL, NONE, PAIRS, study

import models
from codeq.training.init_weights import load_init

EPOCHS, BATCH = 6, 128


def load(path: str) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    images: dict[str, dict[str, list[np.ndarray]]] = {}
    with tarfile.open(path) as archive:
        for member in archive:
            file = archive.extractfile(member) if member.name.endswith(".jpg") else None
            if file is not None:
                split, label = member.name.split("/")[-3:-1]
                pixels = np.asarray(Image.open(io.BytesIO(file.read())).convert("RGB"))
                images.setdefault(split, {}).setdefault(label, []).append(pixels)
    result = {}
    for split, by_label in images.items():
        stacked = np.stack([image for label in sorted(by_label) for image in by_label[label]])
        labels = torch.tensor([index for index, label in enumerate(sorted(by_label)) for _ in by_label[label]])
        result[split] = torch.from_numpy(stacked).permute(0, 3, 1, 2), labels
    return result


def normalised(pixels: torch.Tensor) -> torch.Tensor:
    mean, std = (torch.tensor(v).reshape(3, 1, 1) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    return (pixels.float() / 255 - mean) / std


def train(model: torch.nn.Module, pixels: torch.Tensor, labels: torch.Tensor) -> None:
    """Train for a few epochs: one-cycle SGD, flips and shifts of up to three pixels."""
    torch.manual_seed(0)
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9, weight_decay=5e-4, nesterov=True)
    steps = EPOCHS * len(pixels) // BATCH
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.2, total_steps=steps + 1)
    model.train()
    for step in range(steps):
        index = torch.randint(len(pixels), (BATCH,))
        batch = normalised(pixels[index])
        batch = batch.flip(3) if step % 2 else batch
        rows, columns = torch.randint(-3, 4, (2,)).tolist()
        loss = F.cross_entropy(model(torch.roll(batch, (rows, columns), (2, 3))), labels[index])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    model.eval()


archive, name, weights, *folded = sys.argv[1:]
torch.set_num_threads(1)
data = load(archive)
network = models.create(name, in_channels=3, num_classes=10)
if not Path(weights).exists():
    train(network, *data["train"])
    torch.save(network.state_dict(), weights)
load_init(network, weights)
pixels, labels = data["test"]
order = torch.randperm(len(data["train"][0]), generator=torch.Generator().manual_seed(0))[:256]
chosen = torch.cat([(labels == label).nonzero()[:100, 0] for label in range(10)])
calibration, test = normalised(data["train"][0][order]), normalised(pixels[chosen])
network.eval()
if folded:
    layers = {}
    for node in torch.fx.symbolic_trace(network).graph.nodes:
        if node.op == "call_module" and isinstance(network.get_submodule(node.target), torch.nn.BatchNorm2d):
            layers[node.target] = node.args[0].target
    for norm, layer in layers.items():
        fused = torch.nn.utils.fuse_conv_bn_eval(network.get_submodule(layer), network.get_submodule(norm))
        network.set_submodule(layer, fused)
        network.set_submodule(norm, torch.nn.Identity())
ways = {("tensor", 8): (NONE, *PAIRS), ("tensor", 4): (NONE, *PAIRS), ("channel", 8): (NONE, *PAIRS)} if folded else ALL
study(network, (calibration,), (test,), labels[chosen], ways)
