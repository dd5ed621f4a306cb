"""Judge files of networks by accuracy and latency, and draw the one against the other.

PYTHONPATH=.:docs/results/2026-11-28-latency python docs/results/2026-11-28-latency/curve.py CIFAR OUT NAME=CKPT ...

For every checkpoint an int8 .onnx and an int8 .tflite file, each exported only if parity holds; the accuracy of the
file itself on all 10,000 test images; and the latency of all files of a runtime in one interleaved run: one thread,
batch 1, medians. OUT gets the files, curve.json, and curve-onnx.png and curve-tflite.png. Names up to a hyphen are
joined by a line.
"""

import json
import sys
from itertools import groupby
from pathlib import Path

import torch

import codeq
from codeq.checkpoint import read_factory
from codeq.data import load_dataset
from codeq.figures.style import AMBER, BLUE, GREY, VERMILION, figure_style, fix_layout, new_figure, save_figure
from codeq.toolkit import cli
from export import export_onnx, export_tflite
from export.backend import backend_of
from export.runner import run_batches
from runtime_tests.bench.latency import bench

EXPORT = {"onnx": export_onnx, "tflite": export_tflite}
CALIBRATION = 64
SECONDS = 15


def judge(data: str, folder: Path, checkpoints: dict[str, str]) -> list[dict[str, object]]:
    dataset = load_dataset(f"cifar10:{data}")
    calibration = dataset.train.load(torch.arange(CALIBRATION))
    labels = dataset.test.labels
    x = dataset.test.load(torch.arange(len(labels)))
    rows: list[dict[str, object]] = []
    for backend, export in EXPORT.items():
        paths = {}
        for name, checkpoint in checkpoints.items():
            path = paths[name] = folder / f"{name}.{backend}"
            spec, arguments = read_factory(checkpoint)  # of this folder's own: train.sh wrote it
            model = codeq.load(checkpoint, cli.import_factory(spec, arguments or None)).model
            options = {"activations": "int8", "calibration": calibration, "check_inputs": (x[:8],), "force": True}
            report = export(model, (x[:2],), path, **options)
            runner = backend_of(path).open_runner(path, threads=1)
            runner.open()
            (logits,) = run_batches(runner, [x], 100)
            right = float((torch.from_numpy(logits).argmax(1) == labels).double().mean())
            macs = report.channels.left
            rows.append({"name": name, "backend": backend, "top1": right, "macs": macs, "bytes": report.size_bytes})
        found = bench(list(paths.values()), seconds=SECONDS)
        print(found, flush=True)
        for row, result in zip(rows[-len(paths) :], found.results, strict=True):
            row["latency_ms"] = result.latency_ms
            print(json.dumps(row), flush=True)
    return rows


def draw(rows: list[dict[str, object]], path: Path, runtime: str) -> None:
    with figure_style():
        figure = new_figure(6.4, 4.2)
        axes = figure.add_subplot()
        kinds = groupby(sorted(rows, key=lambda row: (str(row["name"]).partition("-")[0], row["latency_ms"])),
                        key=lambda row: str(row["name"]).partition("-")[0])  # fmt: skip
        for (kind, group), color, marker in zip(kinds, (BLUE, VERMILION, AMBER, GREY), "oDs^", strict=False):
            points = [(row["latency_ms"], 100 * float(row["top1"])) for row in group]  # type: ignore[arg-type]
            axes.plot(*zip(*points, strict=True), color=color, marker=marker, markersize=5, linewidth=1.2, label=kind)
        axes.set_xlabel(f"latency of the int8 file in {runtime} (ms)")
        axes.set_ylabel("top-1 of the file (%)")
        axes.grid(color="0.9", linewidth=0.6)
        axes.legend(loc="lower right", frameon=False)
        fix_layout(figure)
    save_figure(figure, path, force=True)


def main(data: str, out: str, *named: str) -> None:
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    rows = judge(data, folder, dict(item.split("=", 1) for item in named))
    (folder / "curve.json").write_text(json.dumps(rows, indent=1) + "\n")
    for backend, runtime in (("onnx", "onnxruntime"), ("tflite", "LiteRT")):
        draw([row for row in rows if row["backend"] == backend], folder / f"curve-{backend}.png", runtime)


if __name__ == "__main__":
    main(*sys.argv[1:])
