"""Hold an exported file against its checkpoint: `python -m runtime_tests.parity ckpt.pt model.onnx`.

An ONNX file runs in onnxruntime, a .tflite file in LiteRT. The contracts are those of export/onnx/verify.py and
export/tflite/verify.py. Exit status: 0 it holds, 1 it does not, 2 bad input.
"""

import argparse
import sys
from pathlib import Path
from typing import Any

import torch

from codeq import checkpoint
from codeq.data import SOURCES
from codeq.toolkit import cli
from export.onnx.verify import PROGRESS_STEPS
from runtime_tests.agreement.accuracy import compare_accuracy, load_test_data
from runtime_tests.agreement.contract import NAMES, read_contract

DEFAULT_COUNT = 64


def _build_parser() -> argparse.ArgumentParser:
    parser = cli.build_parser(
        "runtime_tests.parity",
        "Check that a file computes in onnxruntime, or in LiteRT, what PyTorch computes with its checkpoint. "
        "Exit status: 0 it does, 1 it does not, 2 bad input.",
        "python -m runtime_tests.parity ckpt.pt model.onnx --data digits --count 1000",
    )
    parser.add_argument("checkpoint", type=Path, help="the checkpoint that the file was made from")
    parser.add_argument("file", type=Path, help="a file of export.onnx or export.tflite")
    parser.add_argument(
        "--data",
        help=f"take inputs from the test set of {SOURCES}, and compare the accuracy on all of it "
        "(default: the inputs held in the checkpoint)",
    )
    parser.add_argument("--count", type=cli.integer(1), default=DEFAULT_COUNT, metavar="N", help="inputs to compare")
    cli.add_model_option(parser)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the verdict; - is stdout")
    parser.add_argument("--force", action="store_true", help="overwrite an existing verdict")
    return parser


def main(argv: list[str] | None = None) -> int:
    """`python -m runtime_tests.parity`; see `--help`."""
    arguments = _build_parser().parse_args(argv)
    cli.check_json(arguments.json, arguments.checkpoint, arguments.file, force=arguments.force)
    contract = read_contract(arguments.file)
    loaded = checkpoint.load(arguments.checkpoint, cli.import_factory(arguments.model, arguments.model_args))
    notes = []
    if contract.metadata.checkpoint_sha256 not in (None, loaded.sha256):
        notes.append(f"{arguments.file} says it was made from another checkpoint than {arguments.checkpoint}")
    accuracy: dict[str, float] = {}
    if arguments.data is None:
        inputs, note = loaded.inputs_to_check(arguments.count)
        notes += [note] if note else []
    else:
        data = load_test_data(loaded, arguments.data)
        inputs = data.test.load(torch.arange(min(arguments.count, len(data.test))))
        if len(inputs) < arguments.count:
            notes.append(f"the test set of {arguments.data} holds {len(inputs)} inputs, not {arguments.count}")
    with cli.progress_bar("parity", PROGRESS_STEPS) as update:
        verdict, reference = contract.hold(loaded.model, inputs, update)
        if arguments.data is not None:
            update(PROGRESS_STEPS, "accuracy on the test set")
            accuracy = compare_accuracy(loaded.model, *contract.runs(loaded.model, reference), data.test)

    for note in notes:
        print(f"note: {note}", file=sys.stderr)
    if str(arguments.json) != "-":
        print(verdict)
        if accuracy:
            values = ", ".join(f"{NAMES[key]} {value:.2%}" for key, value in accuracy.items())
            print(f"accuracy  {values} on the test set")
    report: dict[str, Any] = {"checkpoint": str(arguments.checkpoint), "file": str(arguments.file), "notes": notes}
    cli.write_json(arguments.json, report | {"accuracy": accuracy or None} | verdict.to_dict())
    return 0 if verdict.ok else cli.EXIT_FAILED


if __name__ == "__main__":
    cli.run(main)
