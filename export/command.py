"""What `python -m export.onnx` and `python -m export.tflite` do alike: read a checkpoint, write a file, report."""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from codeq import checkpoint
from codeq.toolkit import cli
from codeq.toolkit.files import check_writable
from export.errors import ExportError, ParityError
from export.options import activation_options, add_activation_options, add_check_option, default_check

Report = TypeVar("Report")


def build_parser(program: str, file: str, suffix: str, runtime: str) -> argparse.ArgumentParser:
    """A parser with the checkpoint, the output and what every export takes; the caller adds its own options.

    Args:
        program: E.g. `export.onnx`.
        file, runtime: For the description: what is written, and what runs it.
        suffix: Of outputs, with its dot.
    """
    parser = cli.build_parser(
        program,
        f"Write a checkpoint as {file} that {runtime} runs exactly as trained. "
        "Exit status: 0 written, 1 parity does not hold (nothing written), 2 bad input.",
        f"python -m {program} ckpt.pt -o model{suffix}",
    )
    parser.add_argument("checkpoint", type=Path, help="a checkpoint of codeq.train or codeq.save")
    parser.add_argument(
        "-o", "--output", type=Path, help=f"file to write (default: the checkpoint's name with {suffix})"
    )
    add_activation_options(parser)
    add_check_option(parser)
    cli.add_model_option(parser)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the report; - is stdout")
    parser.add_argument("--force", action="store_true", help="overwrite existing outputs")
    return parser


def run_export(
    arguments: argparse.Namespace,
    suffix: str,
    export: Callable[..., Report],
    options: dict[str, Any],
    further: Callable[[Report], str] = lambda report: "",
) -> int:
    """Export a checkpoint, print and write the report; the exit status.

    Args:
        arguments: Of `build_parser`.
        suffix: As there.
        export: `export_onnx` or `export_tflite`.
        options: Of that function alone.
        further: A line to print behind the report; "" for none.
    """
    output = arguments.output or arguments.checkpoint.with_suffix(suffix)
    if output.resolve() == arguments.checkpoint.resolve():
        raise ExportError(f"{output}: is the checkpoint itself; name another output with -o")
    check_writable(output, force=arguments.force)
    cli.check_json(arguments.json, arguments.checkpoint, output, force=arguments.force)
    loaded = checkpoint.load(arguments.checkpoint, cli.import_factory(arguments.model, arguments.model_args))
    inputs, note = loaded.inputs_to_check(arguments.check or default_check(loaded.input_shape))
    quantization = activation_options(arguments, loaded)
    try:
        with cli.spinner(f"exporting {arguments.checkpoint}"):
            report: Any = export(
                loaded.model,
                (inputs[:2],),
                output,
                force=arguments.force,
                check_inputs=(inputs,),
                preprocessing=loaded.preprocessing,
                checkpoint_sha256=loaded.sha256,
                **quantization,
                **options,
            )
    except ParityError as error:
        print(error.verdict)
        print(f"{output}: not written, {error}", file=sys.stderr)
        return cli.EXIT_FAILED
    values: dict[str, Any] = report.to_dict()
    if note:
        values["notes"].append(note)
        print(f"note: {note}", file=sys.stderr)
    if str(arguments.json) != "-":
        print(report)
        line = further(report)
        if line:
            print(line)
    cli.write_json(arguments.json, values)
    return 0
