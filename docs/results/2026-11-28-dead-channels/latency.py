"""Measure what removed channels are worth: int8 files of networks of which nothing reads half the hidden channels.

python docs/results/2026-11-28-dead-channels/latency.py OUT resnet18 resnet20 mobilenet_v2 tiny_vit

A share of the channels inside residual blocks (of hidden units in a ViT) is read by nothing: the weights of the second
layer for them are zeros, at random, seed 0. Files: onnxruntime's quantize_static of the dense network, our int8 files
with all channels and without the dead ones, at 8 and 7 bits, ONNX and LiteRT; one thread, batch 1, interleaved.
"""

import copy
import sys
from pathlib import Path

import torch
from torch import nn

import codeq
import models
from export import export_onnx, export_tflite
from runtime_tests.bench.baselines import export_bare, quantize_static
from runtime_tests.bench.latency import bench

HIDDEN = {"resnet18": "conv2", "resnet20": "conv2", "mobilenet_v2": "conv.2", "tiny_vit": "mlp.fc2"}
"""The layers that read what is hidden."""
SHARE = {"resnet18": 0.56, "resnet20": 0.51, "mobilenet_v2": 0.60, "tiny_vit": 0.50}


def network(name: str) -> nn.Module:
    torch.manual_seed(0)
    model = models.create(name).eval()
    with torch.no_grad():
        for path, module in model.named_modules():
            if isinstance(module, nn.Conv2d | nn.Linear) and path.endswith(HIDDEN[name]):
                size = module.weight.shape[1]
                dead = torch.randperm(size)[: round(SHARE[name] * size)]
                module.weight[:, dead] = 0.0
    return model


def main(out: str, *names: str) -> None:
    folder = Path(out)
    folder.mkdir(exist_ok=True)
    for name in names:
        torch.manual_seed(1)
        model = network(name)
        x = torch.randn(4, *model.input_shape)
        bare, static = folder / f"{name}-float32.onnx", folder / f"{name}-static.onnx"
        export_bare(model, x, bare)
        quantize_static(bare, static, x)
        paths = [bare, static]
        options = {"activations": "int8", "calibration": x, "check_inputs": (x[:2],), "force": True}
        for bits in (8, 7):
            quantized = copy.deepcopy(model)
            codeq.attach(quantized, bits, granularity="channel")
            codeq.freeze(quantized)
            for suffix, export in (("onnx", export_onnx), ("tflite", export_tflite)):
                if suffix == "tflite" and bits == 7:  # its kernels take either alike
                    continue
                for kind, keep in (("dense", True), ("small", False)):
                    path = folder / f"{name}-{kind}-{bits}.{suffix}"
                    report = export(quantized, (x[:2],), path, keep_dead_channels=keep, **options)
                    paths.append(path)
                    if not keep:
                        print(name, suffix, report.channels.line, flush=True)
        print(bench(paths), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
