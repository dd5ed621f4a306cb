"""`python -m runtime_tests.fuzz onnx` feeds damaged and crafted files to the commands that read files."""

import argparse
from pathlib import Path

from codeq.toolkit import cli
from runtime_tests.fuzz.names import MUTATORS

COUNT = 200
PARITY_EVERY = 4


def build_parser() -> argparse.ArgumentParser:
    """Build the command's parser."""
    parser = cli.build_parser(
        "runtime_tests.fuzz",
        "Change small files of ours at random, and run inspect, materialize and parity on them, in a process with "
        "limits. Each must end in one line, within 20 CPU-seconds and 2 GiB. "
        "Exit status: 0 they do, 1 one does not, 2 bad usage.",
        "python -m runtime_tests.fuzz onnx --count 1000 --seed 7",
    )
    parser.add_argument("kind", choices=MUTATORS, metavar="KIND", help=f"of the files: {', '.join(MUTATORS)}")
    parser.add_argument("--count", type=cli.integer(1), default=COUNT, metavar="N", help="files to make")
    parser.add_argument("--seed", type=cli.integer(0), default=0, metavar="N", help="other files for another number")
    parser.add_argument(
        "--parity-every", type=cli.integer(1), default=PARITY_EVERY, metavar="N", help="one in N files goes to parity"
    )
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="keep the files that are findings there")
    cli.add_common(parser, json="the findings", force="existing findings")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run `python -m runtime_tests.fuzz`; see `--help`."""
    arguments = build_parser().parse_args(argv)
    cli.check_json(arguments.json, force=arguments.force)
    with cli.loading():  # here, so that the parser answers without the libraries
        from runtime_tests.fuzz.run import fuzz

    with cli.progress_bar("fuzz", arguments.count) as update:
        report = fuzz(
            arguments.kind,
            count=arguments.count,
            seed=arguments.seed,
            parity_every=arguments.parity_every,
            keep=arguments.keep,
            on_progress=update,
        )
    cli.show_report(report, arguments.json)
    return cli.EXIT_FAILED if report.findings else 0


if __name__ == "__main__":
    cli.run(main)
