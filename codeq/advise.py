"""`python -m codeq.advise` looks at the weights of a trained network: what to quantize, and what to prune."""

import argparse

from codeq.quantizer.choices import GRANULARITIES
from codeq.toolkit import cli


def build_parser() -> argparse.ArgumentParser:
    """Build the parser of `python -m codeq.advise`."""
    parser = cli.build_parser(
        "codeq.advise",
        "Look at the weights of a trained float network before compressing it, without inputs: kurtosis of each, what "
        "quantizing and pruning to the same bits leave of it, and what that advises.",
        "python -m codeq.advise --model mynet:build --init weights.pt",
    )
    cli.add_network(parser, "trained weights: a state_dict, or a checkpoint")
    parser.add_argument("--granularity", choices=GRANULARITIES, default="channel", help="what has a range of its own")
    parser.add_argument("--exclude", action="append", metavar="PATTERN", help="layers that stay float; may be repeated")
    cli.add_common(
        parser, json="the advice", force="an existing report", threads="CPU threads (default: torch's choice)"
    )
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run `python -m codeq.advise`; see `--help`."""
    arguments = build_parser().parse_args(argv)
    others = [] if arguments.init is None else [arguments.init]
    cli.check_json(arguments.json, *others, force=arguments.force)
    with cli.loading():  # here, so that the parser answers without torch
        from codeq.compress.advice import advise
        from codeq.training.init_weights import load_init

    cli.set_threads(arguments.threads)
    model, _ = cli.build_model(arguments.model, arguments.model_args)
    if arguments.init is not None:
        load_init(model, arguments.init)
    with cli.spinner("advise"):
        advice = advise(model, granularity=arguments.granularity, exclude=arguments.exclude or ())
    cli.show_report(advice, arguments.json)
    return 0


if __name__ == "__main__":
    cli.run(main)
