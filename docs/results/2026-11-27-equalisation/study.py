"""Compress a network with and without equalisation, and judge the codes in PyTorch and the int8 .onnx file.

It is what the other scripts of this folder share.
"""

import copy
import tempfile
from pathlib import Path

import numpy as np
import torch

import codeq
from codeq.compress import compress
from export import export_onnx
from export.backend import backend_of
from export.runner import run_batches

Way = dict[str, object]
NONE: Way = {"equalise": "none"}
ROWS: Way = {"equalise": "rows"}
PAIRS: tuple[Way, ...] = ({"equalise": "weights"}, {"equalise": "activations"})
"""With rows too where the granularity is "tensor"."""
CORRECTED: Way = {"correct": True}
ALL: dict[tuple[str, int], tuple[Way, ...]] = {
    ("channel", 8): (NONE, *PAIRS, NONE | CORRECTED, NONE | {"absorb": True}),
    ("tensor", 8): (NONE, ROWS, *PAIRS, NONE | CORRECTED, ROWS | CORRECTED, PAIRS[0] | CORRECTED),
    ("channel", 4): (NONE, *PAIRS, NONE | {"correct": False}),
    ("tensor", 4): (NONE, ROWS, *PAIRS),
}


@torch.no_grad()
def answers(model: torch.nn.Module, test: tuple[torch.Tensor, ...]) -> torch.Tensor:
    parts = zip(*(tensor.split(50) for tensor in test), strict=True)
    return torch.cat([model.eval()(*part) for part in parts])


def file_answers(
    model: torch.nn.Module, calibration: tuple[torch.Tensor, ...], test: tuple[torch.Tensor, ...]
) -> torch.Tensor:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "net.onnx"
        export_onnx(
            copy.deepcopy(model), tuple(part[:2] for part in calibration), path, activations="int8",
            calibration=tuple(part[:64] for part in calibration), check_inputs=tuple(part[:4] for part in calibration),
        )  # fmt: skip
        runner = backend_of(path).open_runner(path, threads=1)
        runner.open()
        (found,) = run_batches(runner, test, 50)
    return torch.from_numpy(np.asarray(found))


def judge(found: torch.Tensor, wanted: torch.Tensor, labels: torch.Tensor | None) -> str:
    noise = float(10 * torch.log10(wanted.square().sum() / (wanted - found).square().sum()))
    top1 = "" if labels is None else f", top-1 {float((found.argmax(1) == labels).double().mean()):.2%}"
    return f"{noise:.1f} dB{top1}"


def study(
    network: torch.nn.Module,
    calibration: tuple[torch.Tensor, ...],
    test: tuple[torch.Tensor, ...],
    labels: torch.Tensor | None,
    choices: dict[tuple[str, int], tuple[Way, ...]],
) -> None:
    torch.set_num_threads(1)
    wanted = answers(network, test)
    print(f"codeq {codeq.__version__}, torch {torch.__version__}, one thread")
    if labels is not None:
        print(f"float: top-1 {float((wanted.argmax(1) == labels).double().mean()):.2%}", flush=True)
    for (granularity, bits), ways in choices.items():
        for way in ways:
            model = copy.deepcopy(network)
            report = compress(model, calibration, bits=bits, granularity=granularity, **way)
            name = ", ".join([granularity, f"{bits} bits", *(f"{key}={value}" for key, value in way.items())])
            print(f"{name}: codes {judge(answers(model, test), wanted, labels)}", end="; ")
            print(f"int8 file {judge(file_answers(model, calibration, test), wanted, labels)}", end="; ")
            print(report.equalisation or "", flush=True)
