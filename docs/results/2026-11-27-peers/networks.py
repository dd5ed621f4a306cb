"""Compress networks of every kind at 8 bits, export them as int8, and say what is left of their outputs.

    python docs/results/2026-11-27-peers/networks.py OUT [NAME ...]

in the clone. The networks are trained by tests/codeq/compress/trained_networks.py. Signal to noise against the float
network, on 200 inputs that neither training nor calibration has seen; the files are run by the runtimes themselves.
"""

import copy
import json
import logging
import sys
import warnings
from pathlib import Path

import torch
from torch import Tensor

from codeq.compress import compress
from codeq.quantizer.power import Power
from export import export_onnx, export_tflite
from export.backend import backend_of
from export.errors import ExportError
from export.runner import run_batches
from tests.codeq.compress.trained_networks import NETWORKS, train

OUT = Path(sys.argv[1])
OUT.mkdir(exist_ok=True)
torch.set_num_threads(1)
warnings.simplefilter("ignore")
logging.disable(logging.WARNING)


def decibels(wanted: Tensor, found: Tensor) -> float:
    power = Power()
    power.add(wanted, found)
    return round(power.decibels, 1)


for name in sys.argv[2:] or NETWORKS:
    trained = train(name)
    with torch.no_grad():
        wanted = trained.model(trained.test)
    model = copy.deepcopy(trained.model)
    report = compress(model, trained.calibration)
    row = {"network": name, "accuracy": round(trained.accuracy, 3), "report": round(report.output_decibels[0], 1)}
    with torch.no_grad():
        row["weights"] = decibels(wanted, model(trained.test))
    (OUT / f"{name}.txt").write_text(str(report))
    for suffix, export in (("onnx", export_onnx), ("tflite", export_tflite)):
        path = OUT / f"{name}.{suffix}"
        try:
            made = export(
                copy.deepcopy(model), (trained.calibration[:2],), path,
                activations="int8", calibration=trained.calibration, force=True,
            )  # fmt: skip
        except ExportError as error:
            row[suffix] = str(error)
            continue
        (OUT / f"{name}.{suffix}.txt").write_text(str(made))
        runner = backend_of(path).open_runner(path, threads=1)
        runner.open()
        (found,) = run_batches(runner, (trained.test,), 50)
        row[suffix] = decibels(wanted, torch.from_numpy(found))
        row[f"{suffix}, classes that differ"] = int((torch.from_numpy(found).argmax(1) != wanted.argmax(1)).sum())
    print(json.dumps(row), flush=True)
