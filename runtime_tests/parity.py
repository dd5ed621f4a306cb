"""Hold an exported file against its checkpoint: `python -m runtime_tests.parity ckpt.pt model.onnx`.

The contract is export/verify.py's. Exit status: 0 it holds, 1 it does not, 2 bad input.
"""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from codeq import checkpoint, cli
from codeq.data import SOURCES, Split, batches, load_dataset
from codeq.errors import DataError
from codeq.eval_mode import eval_mode
from export.integer import IntegerReference
from export.metadata import read_metadata
from export.program import ReferenceProgram
from export.run import in_batches, run_network, run_onnxruntime
from export.sessions import load_model, load_session
from export.verify import PROGRESS_STEPS, Verdict, check_parity
from export.verify_integer import rebuild_program

DEFAULT_COUNT = 64
ACCURACY_BATCH_SIZE = 100
PREPROCESSING_TOLERANCE = 1e-6
"""Older checkpoints hold mean and standard deviation as float32 reductions: equal data gives them within rounding."""


def _build_parser() -> argparse.ArgumentParser:
    parser = cli.build_parser(
        "runtime_tests.parity",
        "Check that onnxruntime computes with a file what PyTorch computes with its checkpoint. "
        "Exit status: 0 it does, 1 it does not, 2 bad input.",
        "python -m runtime_tests.parity ckpt.pt model.onnx --data digits --count 1000",
    )
    parser.add_argument("checkpoint", type=Path, help="the checkpoint that the file was made from")
    parser.add_argument("file", type=Path, help="a file of export.onnx")
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


def compare_accuracy(
    loaded: checkpoint.Checkpoint, file: Path, test: Split, program: ReferenceProgram | None
) -> dict[str, float]:
    """Test accuracy in [0, 1]: the network's in PyTorch, the file's in onnxruntime with its own session options, and
    where activations are quantized the integer reference's. Each batch is loaded once for all of them."""
    session = load_session(file)
    fixed = session.get_inputs()[0].shape[0]
    batch_size = fixed if isinstance(fixed, int) else ACCURACY_BATCH_SIZE
    runs: dict[str, Callable[[Tensor], list[np.ndarray]]] = {
        "pytorch": lambda inputs: run_network(loaded.model, (inputs,), batch_size),
        "onnxruntime": lambda inputs: run_onnxruntime(session, (inputs,), batch_size),
    }
    if program is not None:
        reference = IntegerReference(program)
        runs["integer_reference"] = lambda inputs: in_batches(reference.outputs, (inputs,), batch_size)
    correct = dict.fromkeys(runs, 0)
    # Whole batches of a fixed size, as many as fit, so that a loader has more than one image to work on.
    loaded_at_once = batch_size * max(1, ACCURACY_BATCH_SIZE // batch_size)
    with torch.no_grad(), eval_mode(loaded.model):
        for inputs, labels in batches(test, torch.arange(len(test)).split(loaded_at_once)):
            for name, run in runs.items():
                correct[name] += int((run(inputs)[0].argmax(1) == labels.numpy()).sum())
    return {name: count / len(test) for name, count in correct.items()}


def main(argv: list[str] | None = None) -> int:
    """`python -m runtime_tests.parity`; see `--help`."""
    arguments = _build_parser().parse_args(argv)
    cli.check_json(arguments.json, arguments.checkpoint, arguments.file, force=arguments.force)
    metadata = read_metadata(load_model(arguments.file), arguments.file)
    loaded = checkpoint.load(arguments.checkpoint, cli.import_factory(arguments.model, arguments.model_args))
    notes = []
    if metadata.checkpoint_sha256 not in (None, loaded.sha256):
        notes.append(f"{arguments.file} says it was made from another checkpoint than {arguments.checkpoint}")
    accuracy: dict[str, float] = {}
    if arguments.data is None:
        inputs, note = loaded.inputs_to_check(arguments.count)
        notes += [note] if note else []
    else:
        data = load_dataset(arguments.data, input_size=loaded.input_shape[-1], workers=torch.get_num_threads())
        _check_preprocessing(loaded, arguments.data, data.input_shape, {"mean": data.mean, "std": data.std})
        inputs = data.test.load(torch.arange(min(arguments.count, len(data.test))))
        if len(inputs) < arguments.count:
            notes.append(f"the test set of {arguments.data} holds {len(inputs)} inputs, not {arguments.count}")
    program = None
    with cli.progress_bar("parity", PROGRESS_STEPS) as update:
        if metadata.activations is not None:
            program = rebuild_program(loaded.model, (inputs,), metadata)
        verdict = check_parity(arguments.file, loaded.model, inputs, program=program, on_progress=update)
        if arguments.data is not None:
            update(PROGRESS_STEPS, "accuracy on the test set")
            accuracy = compare_accuracy(loaded, arguments.file, data.test, program)

    for note in notes:
        print(f"note: {note}", file=sys.stderr)
    if str(arguments.json) != "-":
        _print(verdict, accuracy)
    values: dict[str, Any] = {"checkpoint": str(arguments.checkpoint), "file": str(arguments.file), "notes": notes}
    cli.write_json(arguments.json, values | {"accuracy": accuracy or None} | verdict.to_dict())
    return 0 if verdict.ok else cli.EXIT_FAILED


def _check_preprocessing(
    loaded: checkpoint.Checkpoint, data: str, input_shape: tuple[int, ...], preprocessing: dict[str, list[float]]
) -> None:
    if input_shape != loaded.input_shape:
        raise DataError(f"{data}: has inputs of shape {input_shape}, {loaded.path} takes {loaded.input_shape}")
    for name, values in loaded.preprocessing.items():
        found = preprocessing.get(name, [])
        if len(found) != len(values) or any(
            abs(a - b) > PREPROCESSING_TOLERANCE for a, b in zip(found, values, strict=True)
        ):
            raise DataError(f"{data}: has {name} {found}, {loaded.path} was trained on data with {name} {values}")


def _print(verdict: Verdict, accuracy: dict[str, float]) -> None:
    print(verdict)
    if accuracy:
        names = {
            "pytorch": "PyTorch",
            "onnxruntime": "onnxruntime",
            "integer_reference": "the integer reference",
        }
        values = ", ".join(f"{names[key]} {value:.2%}" for key, value in accuracy.items())
        print(f"accuracy  {values} on the test set")


if __name__ == "__main__":
    cli.run(main)
