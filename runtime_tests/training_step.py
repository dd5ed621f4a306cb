"""`python -m runtime_tests.training_step` measures what the quantizers add to a training step."""

import argparse

from codeq.toolkit import cli
from runtime_tests.options import add_network


def build_parser() -> argparse.ArgumentParser:
    """Build the command's parser."""
    parser = cli.build_parser(
        "runtime_tests.training_step",
        "Measure what the quantizers add to a training step, and the operator next to its plain definition.",
        "python -m runtime_tests.training_step resnet18 --threads 2",
    )
    add_network(parser, default="resnet18")
    parser.add_argument("--batch", type=cli.integer(2), default=16, help="inputs per step")
    parser.add_argument("--input-size", type=cli.integer(4, 4096), default=64, help="side of the inputs in pixels")
    parser.add_argument("--rounds", type=cli.integer(3), default=15, help="turns that everything takes")
    cli.add_common(
        parser, json="the figures", force="an existing report", threads="CPU threads (default: torch's choice)"
    )
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run `python -m runtime_tests.training_step`; see `--help`."""
    arguments = build_parser().parse_args(argv)
    cli.check_json(arguments.json, force=arguments.force)
    import torch

    with cli.loading():  # here, so that the parser answers without the libraries
        from runtime_tests.bench.training_step import measure_step

    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    with cli.spinner(f"steps of {arguments.network}"):
        report = measure_step(arguments.network, arguments.batch, arguments.input_size, arguments.rounds)
    cli.show_report(report, arguments.json)
    return 0


if __name__ == "__main__":
    cli.run(main)
