"""`python -m runtime_tests.fuzz onnx` feeds damaged and crafted files to the commands that read files."""

import argparse
import math
from pathlib import Path

from codeq.toolkit import cli
from runtime_tests.fuzz.names import MUTATORS

COUNT = 200
RARELY = 4
MOST = 10**9
"""Files that are made in any number of minutes."""


def build_parser() -> argparse.ArgumentParser:
    """Build the command's parser."""
    parser = cli.build_parser(
        "runtime_tests.fuzz",
        "Change small files of ours at random, and run the commands that read such files on them, in a process with "
        "limits. Each must end in one line, within 20 CPU-seconds and 2 GiB. "
        "Exit status: 0 they do, 1 one does not, 2 bad usage.",
        "python -m runtime_tests.fuzz onnx --count 1000 --seed 7",
    )
    parser.add_argument("kind", choices=MUTATORS, metavar="KIND", help=f"of the files: {', '.join(MUTATORS)}")
    amount = parser.add_mutually_exclusive_group()
    amount.add_argument("--count", type=cli.integer(1), default=COUNT, metavar="N", help="files to make")
    amount.add_argument("--minutes", type=cli.number(0, above=True), metavar="N", help="make files for so long instead")
    parser.add_argument("--seed", type=cli.integer(0), default=0, metavar="N", help="other files for another number")
    parser.add_argument(
        "--rarely",
        type=cli.integer(1),
        default=RARELY,
        metavar="N",
        help="one in N files goes to parity, or is exported; a tenth of these to bench",
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

    with cli.progress_bar("fuzz", 100) as update:
        report = fuzz(
            arguments.kind,
            count=arguments.count if arguments.minutes is None else MOST,
            minutes=math.inf if arguments.minutes is None else arguments.minutes,
            seed=arguments.seed,
            rarely=arguments.rarely,
            keep=arguments.keep,
            on_progress=lambda share, detail: update(int(100 * share), detail),
        )
    cli.show_report(report, arguments.json)
    return cli.EXIT_FAILED if report.findings else 0


if __name__ == "__main__":
    cli.run(main)
