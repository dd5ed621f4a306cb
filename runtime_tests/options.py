"""This module defines arguments that several commands of this package share; it imports no heavy library."""

import argparse

from codeq.toolkit import cli
from models.names import NAMES

BENCH_SECONDS = 5.0
"""About how long `runtime_tests.bench` times each file."""
KERNEL_PASSES = 5
"""How often `runtime_tests.kernel_times` runs everything."""


def add_network(parser: argparse.ArgumentParser, default: str | None = None) -> None:
    """Add the network of the registry that a command measures; one without a default has to be named."""
    parser.add_argument(
        "network",
        nargs=None if default is None else "?",
        default=default,
        choices=NAMES,
        metavar="NETWORK",
        help=f"one of {', '.join(NAMES)}",
    )


def add_threads(parser: argparse.ArgumentParser) -> None:
    """Add `--threads`: how many threads files are timed with."""
    parser.add_argument("--threads", type=cli.integer(1, 1024), default=1, metavar="N", help="threads of an operator")


def add_timing_options(parser: argparse.ArgumentParser, seconds: float) -> None:
    """Add `--threads` and `--seconds`: how files are timed.

    Args:
        parser: Gets them.
        seconds: The default.
    """
    add_threads(parser)
    parser.add_argument("--seconds", type=cli.number(0, 3600), default=seconds, help="about how long to time each file")
