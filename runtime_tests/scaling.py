"""`python -m runtime_tests.scaling` measures how the time and memory of an export grow with the network."""

import argparse
import json
from dataclasses import asdict

from codeq.toolkit import cli
from export.onnx.storage.kinds import STORAGES

MILLIONS = (50, 100, 200)


def build_parser() -> argparse.ArgumentParser:
    """Build the command's parser."""
    parser = cli.build_parser(
        "runtime_tests.scaling",
        "Export networks of several sizes, each in a process of its own; show time and memory per parameter. "
        "Exit status: 0 done, 2 bad input.",
        "python -m runtime_tests.scaling --millions 50 --millions 100",
    )
    parser.add_argument(
        "--millions",
        type=cli.integer(1),
        action="append",
        metavar="N",
        help=f"million parameters; may be repeated (default: {', '.join(map(str, MILLIONS))})",
    )
    parser.add_argument(
        "--storage", choices=STORAGES, default="packed", metavar="NAME", help=f"of the files: {', '.join(STORAGES)}"
    )
    cli.add_common(
        parser,
        json="the measurements",
        force="existing measurements",
        threads="CPU threads of PyTorch (default: torch's choice)",
    )
    parser.add_argument("--one", type=cli.integer(1), help=argparse.SUPPRESS)
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run `python -m runtime_tests.scaling`; see `--help`."""
    arguments = build_parser().parse_args(argv)
    with cli.loading():  # here, so that the parser answers without the libraries
        from runtime_tests.bench.scaling import measure_export, measure_growth

    if arguments.one is not None:
        cli.set_threads(arguments.threads)
        print(json.dumps(asdict(measure_export(arguments.one * 1_000_000, arguments.storage))))
        return 0
    cli.check_json(arguments.json, force=arguments.force)
    with cli.progress_bar("scaling", 1000) as update:
        report = measure_growth(
            arguments.millions or MILLIONS,
            arguments.storage,
            threads=arguments.threads,
            on_progress=lambda share, detail: update(int(1000 * share), detail),
        )
    cli.show_report(report, arguments.json)
    return 0


if __name__ == "__main__":
    cli.run(main)
