"""`python -m codeq.pareto RUN.jsonl...` compares training runs by their logs: a table and pictures."""

import argparse
from pathlib import Path

from codeq.toolkit import cli

FOLDER = Path("pareto")
FORMATS = ("png", "svg")


def build_parser() -> argparse.ArgumentParser:
    """Build the parser of `python -m codeq.pareto`."""
    parser = cli.build_parser(
        "codeq.pareto",
        "Compare training runs: a table, accuracy against cost with the Pareto front, and each run's layers, progress "
        "and weights. Runs whose names differ in a trailing -s<seed> or -seed<seed> are averaged. "
        "Exit status: 0 done, 2 bad input or no finished run.",
        "python -m codeq.pareto runs/ --format svg",
    )
    parser.add_argument(
        "runs", nargs="+", type=Path, metavar="RUN", help="logs of training runs, or folders with logs (*.jsonl)"
    )
    parser.add_argument("-o", "--output", type=Path, default=FOLDER, metavar="FOLDER", help="where the figures go")
    parser.add_argument("--format", choices=FORMATS, default=FORMATS[0], help="of the figures")
    cli.add_common(parser, json="the comparison", force="existing figures and comparison")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run `python -m codeq.pareto`; see `--help`."""
    arguments = build_parser().parse_args(argv)
    with cli.loading():  # here, so that the parser answers without NumPy
        from codeq.figures.comparison import compare_runs, find_logs

    cli.check_json(arguments.json, *find_logs(arguments.runs), force=arguments.force)
    with cli.progress_bar("figures", 1000) as update:
        report = compare_runs(
            arguments.runs,
            arguments.output,
            suffix=f".{arguments.format}",
            force=arguments.force,
            on_progress=lambda done, total: update(1000 * done // total, f"{done} of {total}"),
        )
    cli.show_report(report, arguments.json)
    return 0


if __name__ == "__main__":
    cli.run(main)
