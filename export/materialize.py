"""`python -m export.materialize FILE` writes the equivalent dense file, for runtimes that do not decode weights."""

import argparse
import os
from pathlib import Path

from codeq.toolkit import cli
from export.backend import backend_of


def materialize(
    source: str | os.PathLike[str], target: str | os.PathLike[str], *, force: bool = False
) -> cli.Reportable:
    """Write a file with every quantized weight dense. The codes stay the same, byte for byte.

    Args:
        source: A file of ours, any storage.
        target: What to write.
        force: Overwrite.

    Raises:
        ExportError: The source is missing, not one of ours, damaged, or has no other form.
        OutputError: The target exists (without `force`), is the source, or cannot be written.
    """
    path = Path(source)
    return backend_of(path).materialize(path, Path(target), force=force)


def build_parser() -> argparse.ArgumentParser:
    """Make the command's parser."""
    parser = cli.build_parser(
        "export.materialize",
        "Write the equivalent dense file, for runtimes that do not fold constants. The codes are checked and stay the "
        "same, byte for byte. Exit status: 0 written, 2 bad input.",
        "python -m export.materialize model.onnx -o dense.onnx",
    )
    parser.add_argument("file", type=Path, help="a file of export.onnx")
    parser.add_argument("-o", "--output", type=Path, help="file to write (default: FILE-dense.onnx)")
    cli.add_common(parser, json="what was written", force="existing outputs")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run `python -m export.materialize`; see `--help`."""
    arguments = build_parser().parse_args(argv)
    default = arguments.file.with_name(f"{arguments.file.stem}-dense{arguments.file.suffix}")
    output = arguments.output or default
    cli.check_json(arguments.json, arguments.file, output, force=arguments.force)
    with cli.spinner(f"decoding {arguments.file}"):
        written = materialize(arguments.file, output, force=arguments.force)
    cli.show_report(written, arguments.json)
    return 0


if __name__ == "__main__":
    cli.run(main)
