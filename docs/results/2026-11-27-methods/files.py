"""Compress ResNet-20 for CIFAR-10 by every method at many bits and zeros, export each, and judge the files themselves.

    python -m codeq.train --model resnet20 --data cifar10:CIFAR --bits 32 --init resnet20_cifar10_float.pt --epochs 6 \\
        --batch-size 128 --lr 0.02 -o float.pt
    python docs/results/2026-11-27-methods/files.py CIFAR float.pt OUT                    # compressed, by each method
    python docs/results/2026-11-27-methods/files.py CIFAR float.pt OUT trained/*.pt       # trained: see trained.sh

Calibration: 256 training images; test: all 10,000 test images. Each file is an int8 .onnx in the smallest storage, with
activation ranges of 64 of the 256; an export writes none unless parity holds. One JSON line in OUT/files.jsonl for each
file; what has a line there is not computed again.
"""

import contextlib
import copy
import io
import json
import sys
import time
from pathlib import Path

import torch

import codeq
from codeq.compress import compress
from codeq.compress.pick import METHODS
from codeq.data import load_dataset
from export import export_onnx
from export.backend import backend_of
from export.runner import run_batches

BITS, ZEROS = (8, 4, 3, 2), (0.0, 0.5, 0.75)
CALIBRATION, RANGES = 256, 64


class Table:
    """Exports networks, measures their files, and keeps a JSON line of each."""

    def __init__(self, data: str, float_checkpoint: str, out: str) -> None:
        self.out = Path(out)
        self.out.mkdir(exist_ok=True)
        self.lines = self.out / "files.jsonl"
        dataset = load_dataset(f"cifar10:{data}")
        self.calibration = dataset.train.load(torch.arange(CALIBRATION))
        self.labels = dataset.test.labels
        self.x = dataset.test.load(torch.arange(len(self.labels)))
        self.network = codeq.load(float_checkpoint).model
        with torch.no_grad():
            self.wanted = torch.cat([self.network(part) for part in self.x.split(200)])
        self.add({"file": "float", "top1": self.top1(self.wanted)})

    def has(self, name: str) -> bool:
        return self.lines.exists() and any(json.loads(line)["file"] == name for line in self.lines.open())

    def add(self, row: dict[str, object]) -> None:
        if not self.has(str(row["file"])):
            with self.lines.open("a") as file:
                file.write(json.dumps(row) + "\n")

    def top1(self, logits: torch.Tensor) -> float:
        return float((logits.argmax(1) == self.labels).double().mean())

    def measure(self, model: torch.nn.Module, name: str, **more: object) -> None:
        path = self.out / f"{name}.onnx"
        with contextlib.redirect_stdout(io.StringIO()):
            export_onnx(
                model, (self.x[:2],), path, activations="int8", calibration=self.calibration[:RANGES],
                storage="smallest", check_inputs=(self.calibration[:8],), force=True,
            )  # fmt: skip
        runner = backend_of(path).open_runner(path, threads=1)
        runner.open()
        found = torch.from_numpy(run_batches(runner, (self.x,), 200)[0])
        codes = [weight.codes for weight in codeq.encode(model).values()]
        zeros, entries = sum(int((c == 0).sum()) for c in codes), sum(c.numel() for c in codes)
        noise = float(10 * torch.log10(self.wanted.square().sum() / (self.wanted - found).square().sum()))
        row = {"file": name, "top1": self.top1(found), "decibels": noise, "sparsity": zeros / entries}
        self.add(row | {"bytes": path.stat().st_size} | more)


def main() -> None:
    torch.set_num_threads(1)
    table = Table(*sys.argv[1:4])
    for path in map(Path, sys.argv[4:]):
        if not table.has(path.stem):
            seconds = sum(json.loads(line).get("seconds", 0) for line in path.with_suffix(".jsonl").open())
            table.measure(codeq.load(path).model, path.stem, seconds=seconds)
    if sys.argv[4:]:
        return
    for bits in BITS:
        for zeros in ZEROS:
            for method in METHODS:
                name = f"{method}-{bits}-{zeros:.0%}".replace("%", "")
                if table.has(name) or (method == "spfq_sign" and (bits, zeros) != (2, 0.0)):
                    continue
                model, start = copy.deepcopy(table.network), time.process_time()
                asked = {} if method == "spfq_sign" else {"bits": bits, "zeros": zeros}
                report = compress(model, table.calibration, method=method, **asked)
                seconds = time.process_time() - start
                table.measure(model, name, cpu_seconds=seconds, bound=report.entropy_bytes)


if __name__ == "__main__":
    main()
