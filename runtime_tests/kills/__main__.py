"""`python -m runtime_tests.kills` kills commands while they write, and runs them again."""

import argparse
from pathlib import Path

from codeq.toolkit import cli

COUNT = 200


def build_parser() -> argparse.ArgumentParser:
    """Build the command's parser."""
    parser = cli.build_parser(
        "runtime_tests.kills",
        "Kill commands that write files, half of the times at a random moment and half just before a random change to "
        "a file, and run each again: no file may be broken or lost, no record of a training missing, and nothing left "
        "over. Exit status: 0 so it is, 1 it is not, 2 bad usage.",
        "python -m runtime_tests.kills --count 1000 --seed 7",
    )
    parser.add_argument("--count", type=cli.integer(1), default=COUNT, metavar="N", help="kills")
    parser.add_argument("--seed", type=cli.integer(0), default=0, metavar="N", help="other kills for another number")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="commands by their name in the table (default: all)")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="keep the folders of findings there")
    cli.add_common(parser, json="the findings", force="existing findings")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run `python -m runtime_tests.kills`; see `--help`."""
    parser = build_parser()
    arguments = parser.parse_args(argv)
    cli.check_json(arguments.json, force=arguments.force)
    with cli.loading():  # here, so that the parser answers without the libraries
        from runtime_tests.kills.cases import cases
        from runtime_tests.kills.run import kill

    unknown = sorted(set(arguments.only or ()) - set(cases()))
    if unknown:
        parser.error(f"argument --only: no command {unknown[0]!r}, expected some of: {', '.join(cases())}")
    with cli.progress_bar("kills", arguments.count) as update:
        report = kill(
            arguments.count, seed=arguments.seed, only=arguments.only or (), keep=arguments.keep, on_progress=update
        )
    cli.show_report(report, arguments.json)
    return cli.EXIT_FAILED if report.findings else 0


if __name__ == "__main__":
    cli.run(main)
