"""`python -m runtime_tests.bench a.onnx b.tflite` measures latency, memory and size of files side by side."""

import argparse
from pathlib import Path

from codeq.toolkit import cli
from runtime_tests.options import BENCH_SECONDS, add_timing_options


def build_parser() -> argparse.ArgumentParser:
    """Build the command's parser."""
    parser = cli.build_parser(
        "runtime_tests.bench",
        "Measure ONNX and .tflite files in turn: latency, session creation, peak memory, bytes. "
        "Exit status: 0 done, 2 bad input.",
        "python -m runtime_tests.bench int8.onnx int8.tflite --threads 1",
    )
    parser.add_argument(
        "files", nargs="+", type=Path, metavar="FILE", help="ONNX or .tflite files; speed-ups are over the first"
    )
    parser.add_argument("--batch", type=cli.integer(1), default=1, metavar="N", help="inputs per run")
    add_timing_options(parser, BENCH_SECONDS)
    cli.add_common(parser, json="the measurements", force="existing measurements")
    parser.add_argument("--peak-memory", metavar="BACKENDS", help=argparse.SUPPRESS)
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run `python -m runtime_tests.bench`; see `--help`."""
    arguments = build_parser().parse_args(argv)
    with cli.loading():  # here, so that the parser answers without the libraries
        from runtime_tests.bench.file_memory import measure_here
        from runtime_tests.bench.latency import bench

    if arguments.peak_memory is not None:
        print(measure_here(arguments.files[0], arguments.threads, arguments.batch, arguments.peak_memory))
        return 0
    cli.check_json(arguments.json, *arguments.files, force=arguments.force)
    with cli.progress_bar("bench", 1000) as update:
        report = bench(
            arguments.files,
            threads=arguments.threads,
            batch=arguments.batch,
            seconds=arguments.seconds,
            on_progress=lambda share, detail: update(int(1000 * share), detail),
        )
    cli.show_report(report, arguments.json)
    return 0


if __name__ == "__main__":
    cli.run(main)
