"""`python -m runtime_tests.zoo` exports every network of the registry in every kind of file and holds each to the
parity contract.

Weights are random: 4-bit codes, four fifths of them zeros, with the magnitudes that training gives, and fewer zeros
where a channel has few weights; BatchNorm statistics are those of random inputs (runtime_tests/networks.py). Each
network is exported with float32 and with int8 activations, in three storages, and where LiteRT is installed as .tflite
files. With `--bench` its files are timed next to torch's own float32 export, and those of MLPerf Tiny next to
onnxruntime's `quantize_static` of that (runtime_tests/bench/baselines.py).
"""

import argparse
import tempfile
from pathlib import Path

from codeq.toolkit import cli
from models.names import NAMES
from runtime_tests.options import add_threads


def build_parser() -> argparse.ArgumentParser:
    """Build the command's parser."""
    parser = cli.build_parser(
        "runtime_tests.zoo",
        "Export every network of the registry with random 4-bit codes, four fifths of them zeros, in every mode and "
        "storage, and hold each file to the parity contract. Exit status: 0 all hold, 1 one does not, 2 bad input.",
        "python -m runtime_tests.zoo --networks ds_cnn resnet8 --bench",
    )
    parser.add_argument(
        "--networks", nargs="+", choices=NAMES, metavar="NAME", help="some of the registry (default: all)"
    )
    parser.add_argument(
        "--bench", action="store_true", help="time the files next to float32 and onnxruntime's quantize_static"
    )
    parser.add_argument(
        "--rounds", type=cli.integer(1), metavar="N", help="timed runs of each file (default: five seconds' worth)"
    )
    add_threads(parser)
    cli.add_common(parser, json="the table", force="an existing table")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run `python -m runtime_tests.zoo`; see `--help`."""
    arguments = build_parser().parse_args(argv)
    cli.check_json(arguments.json, force=arguments.force)
    with cli.loading():  # here, so that the parser answers without the libraries
        from runtime_tests.matrix.run import run_matrix

    networks = list(dict.fromkeys(arguments.networks or NAMES))
    with tempfile.TemporaryDirectory() as folder, cli.progress_bar("zoo", 1000) as update:
        report = run_matrix(
            networks,
            Path(folder),
            timed=arguments.bench,
            rounds=arguments.rounds,
            threads=arguments.threads,
            on_progress=lambda share, detail: update(int(1000 * share), detail),
        )
    cli.show_report(report, arguments.json)
    return 0 if report.ok else cli.EXIT_FAILED


if __name__ == "__main__":
    cli.run(main)
