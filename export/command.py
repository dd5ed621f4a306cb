"""This module does what the export commands do alike: it reads a checkpoint, writes a file and reports. Flags come from
the backend's request.
"""

import argparse
import dataclasses
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path

from codeq.toolkit import cli
from codeq.toolkit.files import check_writable
from codeq.toolkit.options import add_options, options_of
from codeq.toolkit.table import report_width
from export.backend import Backend
from export.errors import ExportError
from export.options import DEFAULT_CHECK, Quantization


def build_parser(backend: Backend) -> argparse.ArgumentParser:
    """Make a parser with the checkpoint, the output, what every export takes, and the backend's own options."""
    program = f"export.{backend.name}"
    parser = cli.build_parser(
        program,
        f"Write a checkpoint as {backend.file} that {backend.runtime} runs exactly as trained. "
        "Exit status: 0 written, 1 parity does not hold (nothing written without --accept-mismatch), 2 bad input.",
        f"python -m {program} ckpt.pt -o model{backend.suffix}",
    )
    parser.add_argument("checkpoint", type=Path, help="a checkpoint of codeq.train or codeq.save")
    parser.add_argument(
        "-o", "--output", type=Path, help=f"file to write (default: the checkpoint's name with {backend.suffix})"
    )
    add_options(parser, Quantization, suppress=True)
    parser.add_argument(
        "--calibration",
        metavar="SOURCE",
        help="inputs for activation ranges: a folder of images or of .npy files, an .npy or .npz file of (N, ...), or "
        "package.module:function that returns or yields batches, such as a DataLoader; for several inputs an .npz file "
        "or a function that gives them by name (default: those in the checkpoint)",
    )
    for name, example in (("mean", "0.485,0.456,0.406"), ("std", "0.229,0.224,0.225")):
        parser.add_argument(
            f"--{name}",
            type=cli.numbers,
            metavar="X,Y,Z",
            help=f"of pixels in [0, 1] per channel, for images where the checkpoint has none, e.g. {example}",
        )
    parser.add_argument(
        "--check",
        type=cli.integer(1),
        metavar="N",
        help=f"held inputs to check parity on (default: {DEFAULT_CHECK}, fewer of large ones)",
    )
    add_options(parser, backend.request)
    cli.add_model_option(parser)
    cli.add_common(
        parser, json="the report", force="existing outputs", threads="CPU threads of PyTorch (default: torch's choice)"
    )
    return parser


def run_export(backend: Backend, argv: list[str] | None) -> int:
    """Export a checkpoint, print and write the report; the exit status."""
    arguments = build_parser(backend).parse_args(argv)
    backend.require()
    output = arguments.output or arguments.checkpoint.with_suffix(backend.suffix)
    if output.resolve() == arguments.checkpoint.resolve():
        raise ExportError(f"{output}: is the checkpoint itself; name another output with -o")
    check_writable(output, force=arguments.force)
    cli.check_json(arguments.json, arguments.checkpoint, output, force=arguments.force)
    with cli.loading():  # here, so that the parser answers without torch
        from codeq import checkpoint
        from codeq.graph.inputs import slice_inputs
        from codeq.quantizer.signal import NetworkSignal
        from codeq.trusted_factory import factory_of
        from export.from_checkpoint import checked_inputs, choose_quantization
        from export.parity.verdict import ParityError
        from export.publish import publish
        from export.report import LABEL_WIDTH

    cli.set_threads(arguments.threads)
    loaded = checkpoint.load(arguments.checkpoint, factory_of(arguments))
    with cli.spinner(f"reading {arguments.calibration or arguments.checkpoint}"):
        quantization = choose_quantization(
            loaded, options_of(arguments, Quantization), arguments.calibration, mean=arguments.mean, std=arguments.std
        )
    inputs, note = checked_inputs(loaded, arguments.check, quantization if arguments.calibration else None)
    request = backend.request(
        **options_of(arguments, backend.request),
        quantization=quantization,
        force=arguments.force,
        check_inputs=inputs,
        preprocessing=loaded.preprocessing,
        labels=loaded.labels,
        checkpoint_sha256=loaded.sha256,
    )
    example = slice_inputs(inputs, slice(2 if request.open_batch else 1))
    try:
        with cli.spinner(f"exporting {arguments.checkpoint}"):
            report = publish(backend, loaded.model, example, output, request)
    except ParityError as error:
        print(error.verdict)
        print(f"{output}: not written, {error}", file=sys.stderr)
        return cli.EXIT_FAILED
    if report.weight_signal is None:  # behind frozen grids there is no float network any more
        report = dataclasses.replace(report, weight_signal=NetworkSignal.from_metrics(loaded.metrics))
    if note:
        print(f"note: {note}", file=sys.stderr)
    for warning in report.warnings:
        print(f"warning: {warning}", file=sys.stderr)
    if str(arguments.json) != "-":
        print(report)
        smaller = report.details.smaller(report)
        if smaller:
            words = sys.argv[1:] if argv is None else argv
            line = f"{'to copy':<{LABEL_WIDTH}}{_with_flags(backend, words, smaller)}"
            print(cli.fold_command(line, report_width()))
    report = dataclasses.replace(report, notes=(*report.notes, *([note] if note else [])))
    cli.write_json(arguments.json, report.to_dict())
    return 0


def _with_flags(backend: Backend, words: list[str], flags: Mapping[str, str]) -> str:
    """Give the same command with other values of some flags, to copy."""
    kept: list[str] = []
    skip = False
    for word in words:
        if not skip and word not in flags and word.partition("=")[0] not in flags and word != "--force":
            kept.append(word)
        skip = word in flags
    added = [word for flag in flags.items() for word in flag]
    return f"{cli.program_name(f'export.{backend.name}')} {shlex.join([*kept, *added, '--force'])}"
