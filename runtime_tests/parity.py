"""`python -m runtime_tests.parity ckpt.pt model.onnx` holds an exported file against its checkpoint.

An ONNX file runs in onnxruntime, a .tflite file in LiteRT. The contract is that of export/parity/verdict.py. Exit
status: 0 it holds, 1 it does not, 2 bad input.
"""

import argparse
import os
import sys
from pathlib import Path

from codeq.data.names import SOURCES
from codeq.toolkit import cli

DEFAULT_COUNT = 64


def build_parser() -> argparse.ArgumentParser:
    """Build the command's parser."""
    parser = cli.build_parser(
        "runtime_tests.parity",
        "Check that a file computes in onnxruntime, or in LiteRT, what PyTorch computes with its checkpoint. "
        "And that the file is what its export writes. Exit status: 0 it does, 1 it does not, 2 bad input.",
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
    parser.add_argument(
        "--strict",
        action=argparse.BooleanOptionalAction,
        default=None,
        help="all of the file that is not what its export writes is a failure: versions of packages, order and form "
        "too, which are listed otherwise (default: where the environment variable CI is set)",
    )
    parser.add_argument(
        "--device-results",
        type=Path,
        metavar="FILE.npz",
        help="judge what a device computed with the files of runtime_tests.probe_file, its codes by the rules of its "
        "processor (default: what the runtime computes here)",
    )
    cli.add_model_option(parser)
    cli.add_common(
        parser,
        json="the verdict",
        force="an existing verdict",
        threads="CPU threads of PyTorch (default: torch's choice)",
    )
    return parser


def is_ci() -> bool:
    """Say whether the environment is one that checks what others commit."""
    return os.environ.get("CI", "").lower() not in ("", "0", "false", "no")


def main(argv: list[str] | None = None) -> int:
    """Run `python -m runtime_tests.parity`; see `--help`."""
    arguments = build_parser().parse_args(argv)
    cli.check_json(arguments.json, arguments.checkpoint, arguments.file, force=arguments.force)
    with cli.loading():  # here, so that the parser answers without the libraries
        from codeq.trusted_factory import factory_of
        from runtime_tests.agreement.parity import check_file

    cli.set_threads(arguments.threads)
    factory = factory_of(arguments)
    with cli.progress_bar("parity", 1000) as update:
        report = check_file(
            arguments.checkpoint,
            arguments.file,
            factory,
            arguments.data,
            arguments.count,
            strict=is_ci() if arguments.strict is None else arguments.strict,
            device_results=arguments.device_results,
            on_progress=lambda share, detail: update(int(1000 * share), detail),
        )
    for note in report.notes:
        print(f"note: {note}", file=sys.stderr)
    cli.show_report(report, arguments.json)
    return 0 if report.verdict.ok else cli.EXIT_FAILED


if __name__ == "__main__":
    cli.run(main)
