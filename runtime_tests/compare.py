"""`python -m runtime_tests.compare resnet18` measures one network as four files: two of ours beside torch's and
onnxruntime's.
"""

import argparse
import json
from dataclasses import asdict
from pathlib import Path

from codeq.toolkit import cli
from runtime_tests.options import add_network, add_timing_options


def build_parser() -> argparse.ArgumentParser:
    """Build the command's parser."""
    parser = cli.build_parser(
        "runtime_tests.compare",
        "Export a network four ways and measure the files and the exports. Exit status: 0 done, 2 bad input.",
        "python -m runtime_tests.compare resnet18 --folder bench",
    )
    add_network(parser)
    parser.add_argument("--folder", type=Path, default=Path("bench"), help="where the files go")
    add_timing_options(parser, seconds=10.0)
    cli.add_common(parser, json="the measurements", force="existing measurements")
    parser.add_argument("--measure", choices=["bare", "ours"], help=argparse.SUPPRESS)
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run `python -m runtime_tests.compare`; see `--help`."""
    arguments = build_parser().parse_args(argv)
    if arguments.measure:
        from runtime_tests.bench.export_cost import measure_export

        print(json.dumps(asdict(measure_export(arguments.network, arguments.measure, arguments.folder))))
        return 0
    cli.check_json(arguments.json, force=arguments.force)
    with cli.loading():  # here, so that the parser answers without the libraries
        from runtime_tests.bench.four_files import measure_four_files

    with cli.progress_bar(arguments.network, 1000) as update:
        report = measure_four_files(
            arguments.network,
            arguments.folder,
            threads=arguments.threads,
            seconds=arguments.seconds,
            on_progress=lambda share, detail: update(int(1000 * share), detail),
        )
    cli.show_report(report, arguments.json)
    return 0


if __name__ == "__main__":
    cli.run(main)
