"""`python -m export.inspect FILE` shows what a file of ours holds, and whether its codes are intact.

Needs the file and its runtime: no PyTorch, no checkpoint.
"""

import argparse
from pathlib import Path

from codeq.toolkit import cli
from export.backend import backend_of
from export.errors import ExportError
from export.feeding_code import feeding_code


def inspect_file(path: Path) -> cli.Reportable:
    """Read a file of any backend, decode every weight, and hold its codes to the hashes of the export.

    Raises:
        ExportError: Missing, not one of ours, or damaged.

    Examples:
        print(inspect_file(Path("model.onnx")))
    """
    return backend_of(path).inspect(path)


def build_parser() -> argparse.ArgumentParser:
    """Make the command's parser."""
    parser = cli.build_parser(
        "export.inspect",
        "Show what a file of ours holds: every weight's bytes against the entropy bound of its codes, and the "
        "overhead. Decodes all codes and checks their hashes, and nothing else. Exit status: 0 codes are as written, "
        "2 damaged or not one of ours.",
        "python -m export.inspect model.onnx; python -m export.inspect model.onnx --code > feed.py",
    )
    parser.add_argument("file", type=Path, help="a file of export.onnx or export.tflite")
    parser.add_argument(
        "--code",
        action="store_true",
        help="print a program that feeds the file as its network was trained, with its runtime alone, and nothing else",
    )
    cli.add_common(parser, json="the inspection", force="an existing inspection")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run `python -m export.inspect`; see `--help`."""
    arguments = build_parser().parse_args(argv)
    own = backend_of(arguments.file).files(arguments.file)
    cli.check_json(arguments.json, *own, force=arguments.force)
    if arguments.code:
        if arguments.json:
            raise ExportError("--code prints a program, and no inspection that --json could write; leave one out")
        print(feeding_code(arguments.file), end="")
        return 0
    with cli.spinner(f"decoding {arguments.file}"):
        inspection = inspect_file(arguments.file)
    cli.show_report(inspection, arguments.json)
    return 0


if __name__ == "__main__":
    cli.run(main)
