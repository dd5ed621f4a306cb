"""`python -m codeq.train` trains a network with learnable dead zones: its flags are here and in training/recipe.py.

What it then does is in training/command.py, which loads PyTorch; nothing here does.
"""

import argparse
from pathlib import Path

from codeq.errors import CheckpointError
from codeq.toolkit import cli
from codeq.toolkit.options import add_options, options_of
from codeq.training.recipe import GROUPS, RECIPES, TRAINING, TrainConfig, resolve

DEFAULT_RECIPE = "ours"


def build_parser() -> argparse.ArgumentParser:
    """Build the parser of `python -m codeq.train`."""
    parser = cli.build_parser(
        "codeq.train",
        "Train a network with learnable dead zones and write a checkpoint that export needs nothing beside. "
        "An option that would do nothing beside the others is refused.",
        "torchrun --nproc-per-node 2 -m codeq.train --data cifar10:DIR --bits mixed --bops 0.02\n"
        "  python -m codeq.train --model resnet8 --data digits --bits 4 --sparsity 0.9 -o ckpt.pt",
    )
    groups = {title: parser.add_argument_group(title) for title in GROUPS}
    groups[TRAINING].add_argument(
        "--recipe",
        choices=list(RECIPES),
        help=f"what the other options default to (default: {DEFAULT_RECIPE}; see docs/training.md)",
    )
    # Options of the recipe have no argparse default, so that --resume can tell what was asked for from what was not.
    add_options(parser, TrainConfig, suppress=True)
    group = parser.add_argument_group("running")
    group.add_argument(
        "--resume", type=Path, metavar="CKPT", help="continue an unfinished run with its own recipe and files"
    )
    group.add_argument("--dry-run", action="store_true", help="say what a run would be, try three steps, write nothing")
    cli.add_common(group, threads="CPU threads (default: torch's choice)")
    group.add_argument(
        "--workers", type=cli.integer(0, 1024), help="threads that decode images (default: as --threads)"
    )
    group.add_argument("--device", default="cpu", help="where to compute: cpu, cuda or cuda:N")
    group = parser.add_argument_group("files")
    group.add_argument(
        "-o", "--output", type=Path, help="checkpoint to write (default: ckpt.pt, or with --resume the same file)"
    )
    group.add_argument("--best", type=Path, metavar="CKPT", help="also keep the best epoch of those on frozen grids")
    group.add_argument("--log", type=Path, metavar="FILE", help="JSON lines (default: the output's name with .jsonl)")
    group.add_argument("--tensorboard", type=Path, metavar="DIR", help="write TensorBoard events there")
    group.add_argument("--plot", type=Path, metavar="FILE", help="draw bits and zeros per layer, PNG or SVG")
    cli.add_common(group, json="metrics and costs", force="existing outputs, never what the run reads")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run `python -m codeq.train`; see `--help`."""
    arguments = vars(build_parser().parse_args(argv))
    asked = options_of(arguments, TrainConfig)
    if arguments["resume"] is None:
        config = resolve(arguments["recipe"] or DEFAULT_RECIPE, asked)
    elif arguments["recipe"] is not None:
        raise CheckpointError(f"{arguments['resume']}: brings its own recipe; leave --recipe out")
    else:
        config = None
    with cli.loading():  # here, so that the parser answers without torch
        from codeq.training.command import run_training

    return run_training(arguments, asked, config)


if __name__ == "__main__":
    cli.run(main)
