"""Predict what files of networks with half their multiply-adds take, and measure it.

python docs/results/2026-11-28-latency/predicted.py OUT onnx:7 onnx:8 tflite:8 -- resnet18 resnet20 tiny_vit

For every network and every backend with bits: a table of kernel times; channels chosen at random, tile by tile, until
half of the multiply-adds are left; int8 files of the dense network and of that one, each held to PyTorch as every
export is; and one interleaved run of both beside onnxruntime's quantize_static of the dense network. Seed 0, one
thread, batch 1. A table that is in OUT is not measured again.
"""

import copy
import json
import sys
from pathlib import Path

import numpy as np
import torch

import codeq
import models
from codeq.channels.kernel_times import read_kernel_times
from codeq.channels.price import affordable
from codeq.channels.spaces import ChannelSpaces, find_spaces
from export import export_onnx, export_tflite
from export.backend import get_backend
from runtime_tests.bench.baselines import export_bare, quantize_static
from runtime_tests.bench.kernel_times import measure_kernel_times
from runtime_tests.bench.latency import bench

EXPORT = {"onnx": export_onnx, "tflite": export_tflite}
MACS = 0.5


def half(spaces: ChannelSpaces) -> np.ndarray:
    """Choose channels at random until MACS of the multiply-adds are left, or the fewest that the guard allows."""
    worth = np.random.default_rng(0).random(spaces.count)
    everything = np.ones(spaces.count, bool)
    low, high = 0.0, 1.0
    for _ in range(16):
        share = (low + high) / 2
        live = affordable(spaces, worth, share * spaces.cost(everything))
        low, high = (share, high) if spaces.macs(live) < MACS * spaces.macs(everything) else (low, share)
    return live


def measure(name: str, kinds: list[str], folder: Path) -> None:
    torch.manual_seed(0)
    model = models.create(name).eval()
    x = torch.randn(4, *model.input_shape)
    bare, static = folder / f"{name}-float32.onnx", folder / f"{name}-static.onnx"
    if not static.exists():
        export_bare(model, x, bare)
        quantize_static(bare, static, x)
    for kind in kinds:
        backend, _, bits = kind.partition(":")
        path = folder / f"{name}-{backend}-{bits}.json"
        if not path.exists():
            measure_kernel_times(model, x, get_backend(backend), bits=int(bits)).write(path)
        times = read_kernel_times(path)
        dense = copy.deepcopy(model)
        codeq.attach(dense, int(bits), granularity="channel", channels=True)
        spaces = find_spaces(dense, x[:2]).timed(times)
        live, everything = half(spaces), np.ones(spaces.count, bool)
        small = copy.deepcopy(dense)
        spaces.let_live(small, live)
        paths = [static]
        for network, what in ((dense, "dense"), (small, "small")):
            codeq.freeze(network)
            suffix = get_backend(backend).suffix
            paths.append(folder / f"{name}-{what}-{bits}{suffix}")
            options = {"activations": "int8", "calibration": x, "check_inputs": (x[:2],), "force": True}
            EXPORT[backend](network, (x[:2],), paths[-1], **options)
        found = bench(paths, seconds=10)
        of_static, of_dense, of_small = (result.latency_ms for result in found.results)
        predicted = times.of_network(codeq.shrink(small, x[:2], fold_constants=False).model)
        row = {
            "network": name, "kind": kind, "macs_left": spaces.macs(live) / spaces.macs(everything),
            "quantize_static_ms": of_static, "dense_ms": of_dense, "small_ms": of_small,
            "over_quantize_static": of_static / of_small, "over_dense": of_dense / of_small,
            "predicted_share": predicted.share, "measured_share": of_small / of_dense,
            "prediction_off": predicted.share / (of_small / of_dense) - 1,
        }  # fmt: skip
        print(json.dumps({key: round(value, 4) if isinstance(value, float) else value for key, value in row.items()}))
        print(found, flush=True)


def main(out: str, *arguments: str) -> None:
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    split = arguments.index("--")
    for name in arguments[split + 1 :]:
        measure(name, list(arguments[:split]), folder)


if __name__ == "__main__":
    main(*sys.argv[1:])
