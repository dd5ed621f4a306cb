"""`python -m runtime_tests.kernel_times ckpt.pt -o times.json` measures what a runtime's kernels take for every layer.

there   python -m runtime_tests.kernel_times ckpt.pt -o times.json               # where the network will run
here    python -m codeq.train --latency 0.5 --kernel-times times.json ...        # where it is trained
there   python -m runtime_tests.kernel_times small.pt --check times.json         # what it predicts, and what is so
"""

import argparse
import sys
from pathlib import Path

from codeq.errors import KernelTimesError
from codeq.toolkit import cli
from export.backend import BACKENDS
from runtime_tests.options import BENCH_SECONDS, KERNEL_PASSES, add_timing_options

COUNT = 16


def build_parser() -> argparse.ArgumentParser:
    """Build the command's parser."""
    parser = cli.build_parser(
        "runtime_tests.kernel_times",
        "Measure what the layers of a network's int8 file take, with all channels and with fewer: the table that "
        "codeq.train --latency and codeq.compress --latency count by. Run it where the network will run. "
        "Exit status: 0 written, or the prediction holds; 1 it is more than a tenth off; 2 bad input.",
        "python -m runtime_tests.kernel_times ckpt.pt -o times.json",
    )
    parser.add_argument("checkpoint", type=Path, help="of the network, float or attached; its weights do not matter")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("-o", "--output", type=Path, default=Path("times.json"), help="the table to write")
    what.add_argument(
        "--check", type=Path, metavar="TABLE", help="hold its prediction for a trained network against files instead"
    )
    parser.add_argument(
        "--backend",
        choices=tuple(BACKENDS),
        help=f"whose files, and so whose runtime (default: {next(iter(BACKENDS))}; with --check the table's)",
    )
    parser.add_argument("--bits", type=cli.integer(2, 8), metavar="N", help="bits of the weights (default: 8)")
    parser.add_argument(
        "--passes",
        type=cli.integer(1, 100),
        metavar="N",
        help=f"how often everything is run (default: {KERNEL_PASSES})",
    )
    add_timing_options(parser, BENCH_SECONDS)
    cli.add_model_option(parser)
    cli.add_common(parser, json="the table", force="an existing table")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run `python -m runtime_tests.kernel_times`; see `--help`."""
    arguments = build_parser().parse_args(argv)
    files = [arguments.output] if arguments.check is None else [arguments.check]
    cli.check_json(arguments.json, arguments.checkpoint, *files, force=arguments.force)
    with cli.loading():  # here, so that the parser answers without the libraries
        from codeq import checkpoint
        from codeq.channels.kernel_times import read_kernel_times
        from codeq.graph.autocast import autocast_off
        from codeq.toolkit.files import check_writable
        from codeq.trusted_factory import factory_of
        from export.backend import get_backend
        from runtime_tests.bench.kernel_times import (
            backend_of_table,
            check_kernel_times,
            measure_kernel_times,
            processor_name,
        )

    if arguments.check is not None:
        for name in ("backend", "bits", "passes"):
            if getattr(arguments, name) is not None:
                raise KernelTimesError(f"--check takes the table's runtime and the network's bits; leave --{name} out")
    table = None if arguments.check is None else read_kernel_times(arguments.check)
    if table is None:
        check_writable(arguments.output, force=arguments.force)
    backend = get_backend(arguments.backend or next(iter(BACKENDS))) if table is None else backend_of_table(table)
    backend.require()
    loaded = checkpoint.load(arguments.checkpoint, factory_of(arguments))
    inputs, _ = loaded.inputs_to_check(COUNT)
    if table is not None:
        here = processor_name()
        if table.processor != here:
            print(f"note: the table is of {table.processor}, and this is {here}", file=sys.stderr)
        with cli.spinner("measuring"), autocast_off():
            check = check_kernel_times(table, loaded.model, inputs, backend, seconds=arguments.seconds)
        cli.show_report(check, arguments.json)
        return 0 if check.ok else cli.EXIT_FAILED
    with cli.progress_bar("kernel times", 1000) as update, autocast_off():
        times = measure_kernel_times(
            loaded.model,
            inputs,
            backend,
            bits=arguments.bits or 8,
            threads=arguments.threads,
            passes=arguments.passes or KERNEL_PASSES,
            on_progress=lambda share, detail: update(int(1000 * share), detail),
        )
    times.write(arguments.output)
    cli.show_report(times, arguments.json)
    if str(arguments.json) != "-":
        print(f"{arguments.output} written")
    return 0


if __name__ == "__main__":
    cli.run(main)
