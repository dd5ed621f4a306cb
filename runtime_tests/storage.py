"""`python -m runtime_tests.storage resnet18` measures what each storage of an ONNX file costs on one network."""

import argparse
from typing import Any

from codeq.toolkit import cli
from export.onnx.storage.kinds import STORAGES
from export.options import ACTIVATIONS, read_activations
from runtime_tests.options import add_network, add_timing_options

ZEROS = (0.5, 0.8, 0.9, 0.95)
COMPARED: tuple[Any, ...] = ("dense", "sparse", "packed", "smallest")


def build_parser() -> argparse.ArgumentParser:
    """Build the command's parser."""
    parser = cli.build_parser(
        "runtime_tests.storage",
        "Export a network with drawn codes in every storage; compare bytes, session creation, memory and latency. "
        "Exit status: 0 done, 2 bad input.",
        "python -m runtime_tests.storage resnet18 --zeros 0.5 --zeros 0.9",
    )
    add_network(parser, default="resnet18")
    parser.add_argument(
        "--zeros",
        type=cli.number(0, 0.999),
        action="append",
        metavar="SHARE",
        help=f"share of zeros; may be repeated (default: {', '.join(map(str, ZEROS))})",
    )
    parser.add_argument(
        "--storage",
        choices=STORAGES,
        action="append",
        metavar="NAME",
        help=f"one of {', '.join(STORAGES)}; may be repeated (default: {', '.join(COMPARED)})",
    )
    parser.add_argument(
        "--activations",
        type=read_activations,
        choices=ACTIVATIONS,
        default="float32",
        help="of the files; float is short for float32",
    )
    add_timing_options(parser, seconds=3.0)
    cli.add_common(parser, json="the measurements", force="existing measurements")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run `python -m runtime_tests.storage`; see `--help`."""
    arguments = build_parser().parse_args(argv)
    cli.check_json(arguments.json, force=arguments.force)
    with cli.loading():  # here, so that the parser answers without the libraries
        from runtime_tests.bench.storage import measure_storage

    with cli.progress_bar("storage", 1000) as update:
        report = measure_storage(
            arguments.network,
            arguments.zeros or ZEROS,
            arguments.storage or COMPARED,
            arguments.activations,
            seconds=arguments.seconds,
            threads=arguments.threads,
            on_progress=lambda share, detail: update(int(1000 * share), detail),
        )
    cli.show_report(report, arguments.json)
    return 0


if __name__ == "__main__":
    cli.run(main)
