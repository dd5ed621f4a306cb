"""`python -m codeq.adopt` turns a network that others have quantized into a checkpoint that the exporters take."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from codeq.errors import CodeqError, first_line
from codeq.toolkit import cli
from codeq.toolkit.files import check_writable

if TYPE_CHECKING:
    from torch import nn

    from codeq.adopt.report import AdoptReport

TRACED_INPUTS = 2


def build_parser() -> argparse.ArgumentParser:
    """Build the command's parser."""
    parser = cli.build_parser(
        "codeq.adopt",
        "Take over a network that was quantized elsewhere, weights bit for bit, and write a checkpoint that the "
        "exporters take. A state_dict of saintslab/CoDeQ is known by its names; of any other the values must lie on "
        "integer grids of at most 8 bits, one scale per tensor or output channel. Where the factory builds a network "
        "with fake quantizers (torch.ao, torchao, Brevitas), these are taken over, scales of activations too. "
        "Exit status: 0 written, 2 bad input.",
        "python -m codeq.adopt --model mynet:build --init published.pt --input-shape 3,32,32 -o ckpt.pt",
    )
    cli.add_network(parser, "its state_dict, as the other tool saved it")
    parser.add_argument(
        "--input-shape",
        type=_shape,
        metavar="C,H,W",
        help="of one input without its batch dimension (default: the network's own)",
    )
    parser.add_argument(
        "--snap",
        action="store_true",
        help="a published network: onto the integer grid, which integer kernels need; any other: take the nearest "
        "codes where they are beyond 127 or off by rounding. The report says by how many steps that is off",
    )
    parser.add_argument("--exclude", action="append", metavar="PATTERN", help="layers that stay float; may be repeated")
    parser.add_argument("-o", "--output", type=Path, default=Path("ckpt.pt"), help="checkpoint to write")
    cli.add_common(parser, json="the report", force="an existing checkpoint")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run `python -m codeq.adopt`; see `--help`."""
    arguments = build_parser().parse_args(argv)
    check_writable(arguments.output, force=arguments.force)
    others = [arguments.output, *([arguments.init] if arguments.init else [])]
    cli.check_json(arguments.json, *others, force=arguments.force)
    with cli.loading():  # here, so that the parser answers without torch
        from codeq.checkpoint import save
        from codeq.graph.inputs import needed_names

    model, saved_as = cli.build_model(arguments.model, arguments.model_args)
    needed = needed_names(model)
    if len(needed) > 1:
        raise CodeqError(
            f"--model {arguments.model}: takes {', '.join(needed)}, and codeq.adopt knows no inputs but one of floats; "
            "call codeq.recover(model, inputs) and codeq.save with held_inputs from Python"
        )
    input_shape = arguments.input_shape or getattr(model, "input_shape", None)
    if input_shape is None:
        raise CodeqError(f"--model {arguments.model}: does not say its input_shape; give --input-shape, e.g. 3,224,224")
    report = _adopt(model, arguments, tuple(input_shape))
    _try(model, tuple(input_shape), f"--input-shape {','.join(map(str, input_shape))}")
    save(arguments.output, model, input_shape=tuple(input_shape), activations=report.activations, **saved_as)
    cli.show_report(report, arguments.json)
    if str(arguments.json) != "-":
        print(f"{arguments.output} written")
    return 0


def _adopt(model: "nn.Module", arguments: argparse.Namespace, input_shape: tuple[int, ...]) -> "AdoptReport":
    import torch

    from codeq.adopt.published import from_published, is_published
    from codeq.adopt.recovered import load_quantized, recover
    from codeq.training.init_weights import read_state

    state = None if arguments.init is None else read_state(arguments.init)
    exclude = arguments.exclude or ()
    if state is not None and is_published(state):
        if exclude:
            raise CodeqError(f"--exclude: what {arguments.init} quantizes is quantized in it; leave it out")
        return from_published(model, state, snap=arguments.snap, source=arguments.init)
    if state is not None:
        load_quantized(model, state, arguments.init)
    example = torch.randn(TRACED_INPUTS, *input_shape, generator=torch.Generator().manual_seed(0))
    return recover(model, example, exclude=exclude, snap=arguments.snap)


def _try(model: "nn.Module", input_shape: tuple[int, ...], given: str) -> None:
    """See that the network takes the inputs that its checkpoint will name."""
    import torch

    from codeq.quantizer.outputs import float_outputs

    try:
        float_outputs(model, (torch.zeros(TRACED_INPUTS, *input_shape),), ())
    except Exception as error:  # the network is the user's, and may raise anything
        raise CodeqError(f"{given}: {type(model).__name__} does not take it ({first_line(error)})") from error


def _shape(text: str) -> tuple[int, ...]:
    sizes = text.split(",")
    if not all(size.strip().isdecimal() and int(size) for size in sizes):
        raise argparse.ArgumentTypeError(f"expected sizes with commas between them, e.g. 3,224,224, found {text!r}")
    return tuple(map(int, sizes))


if __name__ == "__main__":
    cli.run(main)
