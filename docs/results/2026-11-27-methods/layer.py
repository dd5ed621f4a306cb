"""Compress one layer behind a ReLU by every method, and judge it on inputs that no method has seen.

    python docs/results/2026-11-27-methods/layer.py

64 x 128, Gaussian weights, 2,000 inputs to choose codes with and 2,000 to judge on: ReLUs of 64 causes mixed at random,
with noise of their own. What is printed is the power of the error over that of the result, mean of three seeds, and the
share of zeros.
"""

import math
import platform
import time

import torch
from torch import nn

import codeq
from codeq.compress.choose import choose_codes
from codeq.compress.columns import Layer
from codeq.compress.pick import METHODS, pick
from codeq.compress.problem import LayerProblem
from codeq.quantizer.attach import attach, quantized_weights

ROWS, COLUMNS, INPUTS = 64, 128, 2000
BITS, ZEROS, SEEDS = (4, 3, 2), (0.0, 0.5, 0.75), (0, 1, 2)


def layer_of(seed: int) -> tuple[LayerProblem, torch.Tensor]:
    rng = torch.Generator().manual_seed(seed)
    causes = torch.randn(2 * INPUTS, COLUMNS // 2, generator=rng, dtype=torch.float64)
    mixed = torch.randn(COLUMNS // 2, COLUMNS, generator=rng, dtype=torch.float64) / math.sqrt(COLUMNS // 2)
    x = (causes @ mixed + 0.3 * torch.randn(2 * INPUTS, COLUMNS, generator=rng, dtype=torch.float64)).relu()
    weight = torch.randn(ROWS, COLUMNS, generator=rng) / math.sqrt(COLUMNS)
    seen, held = (part.T @ part / INPUTS for part in x.chunk(2))
    return LayerProblem(weight, seen), held


def power(weight: torch.Tensor, moments: torch.Tensor) -> float:
    return float(((weight.double() @ moments) * weight.double()).sum())


def compress(name: str, bits: int, zeros: float, seed: int) -> tuple[float, float, str]:
    problem, held = layer_of(seed)
    module = nn.Linear(COLUMNS, ROWS, bias=False)
    picked = pick(name, (1, ROWS, COLUMNS), bits=bits, zeros=zeros, seed=0)
    attach(module, picked.bits, granularity="channel")
    (weight,) = quantized_weights(module)
    values = choose_codes(weight, Layer(), [problem], picked.method, zeros=picked.zeros, reference=picked.reference)[0]
    error = power(values - problem.weight, held) / power(problem.weight, held)
    return error, float((values == 0).double().mean()), picked.note()


torch.set_num_threads(1)
print(f"codeq {codeq.__version__}, torch {torch.__version__}, {platform.machine()}, one thread")
print(f"{'':10}" + "".join(f"{f'{bits} bits, {zeros:.0%}':>17}" for bits in BITS for zeros in ZEROS) + f"{'CPU s':>8}")
for name in METHODS:
    cells, start = [], time.process_time()
    for bits in BITS:
        for zeros in ZEROS:
            found = [compress(name, bits, zeros, seed) for seed in SEEDS]
            error, share = (sum(values) / len(SEEDS) for values in list(zip(*found, strict=True))[:2])
            cells.append(f"{error:>9.4f} ({share:.0%})".rjust(17))
    print(f"{name:10}" + "".join(cells) + f"{time.process_time() - start:8.1f}", flush=True)
for bits in (8, 4, 3):
    print(f"spfq, {bits} bits: {compress('spfq', bits, 0.0, 0)[2]}")
