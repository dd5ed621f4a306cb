"""`python -m runtime_tests.runtimes ckpt.pt FILE [FILE ...] --data digits` compares one checkpoint in several runtimes.

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
from pathlib import Path

from codeq.data.names import SOURCES
from codeq.toolkit import cli
from runtime_tests.runners.registry import all_runtimes
from runtime_tests.runners.runtime import is_installed


def _count(text: str) -> int | None:
    return None if text == "all" else cli.integer(1)(text)


def build_parser() -> argparse.ArgumentParser:
    """Build the command's parser."""
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
        "--runtimes",
        nargs="+",
        choices=list(all_runtimes()),
        metavar="NAME",
        help="some of them (default: those installed)",
    )
    cli.add_model_option(parser)
    cli.add_common(
        parser,
        json="the comparison",
        force="an existing comparison",
        threads="CPU threads of PyTorch (default: torch's choice)",
    )
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run `python -m runtime_tests.runtimes`; see `--help`."""
    arguments = build_parser().parse_args(argv)
    cli.check_json(arguments.json, arguments.checkpoint, *arguments.files, force=arguments.force)
    with cli.loading():  # here, so that the parser answers without the libraries
        from codeq import checkpoint
        from codeq.trusted_factory import factory_of
        from runtime_tests.agreement.accuracy import load_test_data
        from runtime_tests.agreement.runtimes import compare_runtimes

    cli.set_threads(arguments.threads)
    loaded = checkpoint.load(arguments.checkpoint, factory_of(arguments))
    data = None if arguments.data is None else load_test_data(loaded, arguments.data)
    known = all_runtimes()
    runtimes = arguments.runtimes or [name for name, runtime in known.items() if is_installed(runtime)]
    with cli.progress_bar("runtimes", 1000) as update:
        report = compare_runtimes(
            loaded,
            arguments.files,
            data,
            arguments.count,
            runtimes,
            on_progress=lambda done, total: update(1000 * done // total, f"{done} of {total} inputs"),
        )
    for runtime in known.values():
        if runtime.name not in runtimes and not arguments.runtimes:
            print(f"note: {runtime.title} is not installed and was left out", file=sys.stderr)
    cli.show_report(report, arguments.json)
    return cli.EXIT_FAILED if report.first_failure else 0


if __name__ == "__main__":
    cli.run(main)
