"""`python -m runtime_tests.tflite_modes resnet18` measures what each kind of .tflite file costs and saves on one
network.
"""

import argparse
from pathlib import Path

from codeq.toolkit import cli
from runtime_tests.options import add_network, add_timing_options


def build_parser() -> argparse.ArgumentParser:
    """Build the command's parser."""
    parser = cli.build_parser(
        "runtime_tests.tflite_modes",
        "Write a network as every kind of .tflite file and measure them. Exit status: 0 done, 2 bad input.",
        "python -m runtime_tests.tflite_modes resnet18 --zeros 0.9",
    )
    add_network(parser)
    parser.add_argument("--zeros", type=cli.number(0, 1), default=0.9, help="share of zeros of every weight")
    parser.add_argument("--folder", type=Path, default=Path("bench"), help="where the files go")
    add_timing_options(parser, seconds=10.0)
    cli.add_common(parser, json="the measurements", force="existing measurements")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run `python -m runtime_tests.tflite_modes`; see `--help`."""
    arguments = build_parser().parse_args(argv)
    cli.check_json(arguments.json, force=arguments.force)
    with cli.loading():  # here, so that the parser answers without the libraries
        from runtime_tests.bench.tflite_modes import measure_modes

    with cli.progress_bar(arguments.network, 1000) as update:
        report = measure_modes(
            arguments.network,
            arguments.zeros,
            arguments.folder,
            threads=arguments.threads,
            seconds=arguments.seconds,
            on_progress=lambda share, detail: update(int(1000 * share), detail),
        )
    cli.show_report(report, arguments.json)
    return 0


if __name__ == "__main__":
    cli.run(main)
