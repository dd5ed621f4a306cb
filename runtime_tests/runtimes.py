"""One checkpoint in several runtimes: `python -m runtime_tests.runtimes ckpt.pt FILE [FILE ...] --data digits`.

Every ONNX file runs in onnxruntime and, where it is installed, OpenVINO, every .tflite file in LiteRT, one input at a
time and in batches, on one thread. Files with float activations are held to PyTorch: outputs within 1e-5 of the
largest. Files with int8 activations are held to each other: codes are compared tensor by tensor, and where two runtimes
classify an input differently, the first layer at which its codes part must be one whose two kernels have rules that
give different codes for equal operands.

Exit status: 0 they agree, 1 they do not and no kernel explains it, 2 bad input.

That a runtime follows its rule at all is for `runtime_tests.parity`; codes that do not are counted here too.
"""

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor

from codeq import checkpoint
from codeq.data import SOURCES, Dataset, batches
from codeq.graph.eval_mode import eval_mode
from codeq.toolkit import cli
from export.errors import ExportError
from export.program.run import run_network
from runtime_tests.agreement.accuracy import load_test_data
from runtime_tests.agreement.column import open_columns
from runtime_tests.agreement.comparison import BATCH_SIZE, Comparison
from runtime_tests.agreement.contract import NAMES, read_contract
from runtime_tests.agreement.runtimes_report import RuntimesReport
from runtime_tests.runners import RUNTIMES, installed, runtimes_for

HELD = 400
"""Inputs of the checkpoint that are taken without `--data` and `--count`."""


def _count(text: str) -> int | None:
    return None if text == "all" else cli.integer(1)(text)


def _build_parser() -> argparse.ArgumentParser:
    parser = cli.build_parser(
        "runtime_tests.runtimes",
        "Compare files of one checkpoint across PyTorch, onnxruntime, LiteRT and OpenVINO. "
        "Exit status: 0 they agree, 1 they do not and no kernel explains it, 2 bad input.",
        "python -m runtime_tests.runtimes ckpt.pt int8.onnx int8.tflite --data digits",
    )
    parser.add_argument("checkpoint", type=Path, help="the checkpoint that the files were made from")
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE", help="files of export.onnx and export.tflite")
    parser.add_argument(
        "--data", help=f"take inputs from the test set of {SOURCES} (default: the inputs held in the checkpoint)"
    )
    parser.add_argument(
        "--count", type=_count, default=None, metavar="N|all", help="inputs to compare (default: all there are)"
    )
    parser.add_argument(
        "--runtimes", nargs="+", choices=list(RUNTIMES), metavar="NAME", help="some of them (default: those installed)"
    )
    cli.add_model_option(parser)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the comparison; - is stdout")
    parser.add_argument("--force", action="store_true", help="overwrite an existing comparison")
    return parser


def compare_runtimes(
    loaded: checkpoint.Checkpoint,
    files: Sequence[Path],
    data: Dataset | None,
    count: int | None,
    runtimes: Sequence[str],
    *,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> RuntimesReport:
    """Compare files of one checkpoint.

    Args:
        loaded: The checkpoint.
        files: ONNX and .tflite files made from it.
        data: A `Dataset`, whose test set is taken; None takes the checkpoint's inputs.
        count: How many inputs; None takes all.
        runtimes: Of RUNTIMES.
        on_progress: Called with how many inputs are done, of how many.

    Raises:
        ExportError: A file cannot be read or run, or no runtime is left for it.
    """
    if data is None:
        held, _ = loaded.inputs_to_check(count or HELD)
        parts: Iterator[tuple[Tensor, Tensor | None]] = ((part, None) for part in held.split(BATCH_SIZE))
        total, few = len(held), held[:2]
    else:
        total = min(len(data.test), count or len(data.test))
        few = data.test.load(torch.arange(min(2, total)))
        parts = iter(batches(data.test, torch.arange(total).split(BATCH_SIZE)))
    with torch.no_grad(), eval_mode(loaded.model):
        columns = []
        for file in files:
            chosen = [runtime for runtime in runtimes_for(file) if runtime in runtimes]
            if not chosen:
                raise ExportError(f"{file}: none of the runtimes {', '.join(runtimes)} takes it")
            columns += open_columns(read_contract(file), chosen, loaded.model, few, BATCH_SIZE)
        comparison = Comparison(columns)
        for inputs, labels in parts:
            expected = run_network(loaded.model, (inputs,), BATCH_SIZE)[0]
            comparison.add(expected, inputs, None if labels is None else labels.numpy())
            on_progress(comparison.inputs, total)
    return comparison.report()


def main(argv: list[str] | None = None) -> int:
    """`python -m runtime_tests.runtimes`; see `--help`."""
    arguments = _build_parser().parse_args(argv)
    cli.check_json(arguments.json, arguments.checkpoint, *arguments.files, force=arguments.force)
    loaded = checkpoint.load(arguments.checkpoint, cli.import_factory(arguments.model, arguments.model_args))
    data = None if arguments.data is None else load_test_data(loaded, arguments.data)
    runtimes = arguments.runtimes or [name for name in RUNTIMES if installed(name)]
    with cli.progress_bar("runtimes", 1000) as update:
        report = compare_runtimes(
            loaded,
            arguments.files,
            data,
            arguments.count,
            runtimes,
            on_progress=lambda done, total: update(1000 * done // total, f"{done} of {total} inputs"),
        )
    for name in [name for name in RUNTIMES if name not in runtimes and not arguments.runtimes]:
        print(f"note: {NAMES[name]} is not installed and was left out", file=sys.stderr)
    cli.show_report(report, arguments.json)
    return cli.EXIT_FAILED if report.first_failure else 0


if __name__ == "__main__":
    cli.run(main)
