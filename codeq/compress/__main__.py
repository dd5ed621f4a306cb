"""`python -m codeq.compress` turns a trained float network into a checkpoint of codes, without training."""

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from codeq.compress.names import ACTIVATIONS, EQUALISE, METHODS
from codeq.errors import CalibrationError, CompressError, TraceError
from codeq.quantizer.choices import GRANULARITIES, MAX_BITS, MIN_BITS
from codeq.toolkit import cli
from codeq.toolkit.files import check_writable
from codeq.training.budget import MARGINS, Budget
from codeq.training.flag_values import parse_share, parse_size


def build_parser() -> argparse.ArgumentParser:
    """Build the command's parser."""
    parser = cli.build_parser(
        "codeq.compress",
        "Compress a trained float network without training: choose codes for every weight with a few inputs, and write "
        "a checkpoint that the exporters take. Exit status: 0 written, 1 written and the budget missed, 2 bad input.",
        "python -m codeq.compress --model mynet:build --init weights.pt --calibration images/ --input-size 224 "
        "--mean 0.485,0.456,0.406 --std 0.229,0.224,0.225 -o ckpt.pt",
    )
    cli.add_network(parser, "trained weights: a state_dict, or a checkpoint")
    parser.add_argument(
        "--calibration",
        required=True,
        metavar="SOURCE",
        help="a folder of images or of .npy files, an .npy or .npz file (an array for each argument of a network of "
        "several inputs, by name), or MODULE:FUNCTION; a few hundred inputs",
    )
    parser.add_argument("--input-size", type=cli.integer(1), metavar="N", help="height and width of images")
    parser.add_argument(
        "--mean",
        type=cli.numbers,
        metavar="A,B,C",
        help="of pixels in [0, 1], one for all channels or one for each; arrays are taken as they are, and the "
        "checkpoint says that they have it",
    )
    parser.add_argument("--std", type=cli.numbers, metavar="A,B,C", help="likewise")
    parser.add_argument("--count", type=cli.integer(1), metavar="N", help="inputs to take (default: at most 256)")
    parser.add_argument(
        "--labels", type=Path, metavar="FILE", help="names of the classes, one a line: files will tell them"
    )
    parser.add_argument("-o", "--output", type=Path, default=Path("ckpt.pt"), help="checkpoint to write")
    parser.add_argument(
        "--bits",
        type=cli.integer(MIN_BITS, MAX_BITS),
        help="of every weight (default: 8; with --bops or --size chosen for each weight)",
    )
    parser.add_argument(
        "--zeros",
        type=cli.number(0, 1, below=True),
        default=0.0,
        metavar="SHARE",
        help="zeros in every layer but those that keep 8 bits",
    )
    budget = parser.add_mutually_exclusive_group()
    budget.add_argument(
        "--sparsity", type=parse_share, metavar="SHARE", help="zeros over all weights, where they cost least: 0.5"
    )
    budget.add_argument("--bops", type=parse_share, metavar="SHARE", help="bit operations of the float network's: 0.05")
    budget.add_argument("--size", type=parse_size, metavar="BYTES", help="bytes by the entropy bound: 200kB")
    parser.add_argument(
        "--macs",
        type=parse_share,
        metavar="SHARE",
        help="multiply-adds that are left once channels have died: 0.5; the files leave them out",
    )
    parser.add_argument(
        "--latency", type=parse_share, metavar="SHARE", help="likewise of what the int8 file takes, by --kernel-times"
    )
    parser.add_argument(
        "--kernel-times", type=Path, metavar="FILE", help="a table that runtime_tests.kernel_times measured"
    )
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw what other budgets would leave, PNG or SVG")
    parser.add_argument(
        "--method",
        choices=METHODS,
        metavar="METHOD",
        help=f"how codes are chosen: {', '.join(METHODS)} (default: exact_obs for zeros, rounding from 7 bits on, or "
        "obq)",
    )
    parser.add_argument("--granularity", choices=GRANULARITIES, default="channel", help="what has a range of its own")
    parser.add_argument("--exclude", action="append", metavar="PATTERN", help="layers that stay float; may be repeated")
    parser.add_argument(
        "--all-bits",
        action="store_true",
        help="give --bits to all layers, first and depthwise ones too, which otherwise keep 8",
    )
    parser.add_argument(
        "--correct",
        action=argparse.BooleanOptionalAction,
        help="correct biases and BatchNorm statistics (default: corrected)",
    )
    parser.add_argument(
        "--activations",
        choices=ACTIVATIONS,
        default="float",
        help="int8 chooses their scales here, and --distill trains them; the exporters choose them otherwise",
    )
    parser.add_argument(
        "--distill",
        type=cli.integer(1),
        default=0,
        metavar="EPOCHS",
        help="then train towards the float network's outputs: no labels",
    )
    parser.add_argument(
        "--distill-inputs", metavar="SOURCE", help="further inputs to train on, as for --calibration; no labels either"
    )
    parser.add_argument(
        "--equalise",
        choices=EQUALISE,
        help="scale channels first, which keeps the float network bit for bit (default: rows with --granularity "
        "tensor, or none; activations is for LayerNorms with a few very large channels)",
    )
    parser.add_argument(
        "--absorb",
        action="store_true",
        help="move high biases into the next layers, which changes the float network a little",
    )
    parser.add_argument(
        "--seed", type=cli.integer(0), default=0, help="of the places of feature maps that count, and of spfq"
    )
    cli.add_common(
        parser, json="the report", force="an existing checkpoint", threads="CPU threads (default: torch's choice)"
    )
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run `python -m codeq.compress`; see `--help`."""
    arguments = build_parser().parse_args(argv)
    check_writable(arguments.output, force=arguments.force)
    _check_plot(arguments)
    if arguments.distill_inputs and not arguments.distill:
        raise CompressError("--distill-inputs are what --distill EPOCHS trains on; give both")
    others = [
        arguments.output,
        *(
            path
            for path in (arguments.init, arguments.plot, arguments.kernel_times, arguments.labels)
            if path is not None
        ),
    ]
    cli.check_json(arguments.json, *others, force=arguments.force)
    with cli.loading():  # here, so that the parser answers without torch
        from codeq import figures
        from codeq.checkpoint import save
        from codeq.compress.labels import read_labels
        from codeq.compress.network import compress
        from codeq.data.calibration import read_calibration
        from codeq.data.network_inputs import data_arguments, image_channels, known_arity, name_inputs
        from codeq.graph.inputs import count_inputs, slice_inputs
        from codeq.training.init_weights import load_init

    cli.set_threads(arguments.threads)
    model, saved_as = cli.build_model(arguments.model, arguments.model_args)
    if arguments.init is not None:
        load_init(model, arguments.init)

    def read_inputs(source: str, count: int | None) -> Any:
        read = read_calibration(
            source,
            input_size=arguments.input_size,
            mean=arguments.mean,
            std=arguments.std,
            channels=image_channels(model),
            count=count,
            arity=known_arity(model),
            arguments=data_arguments(model),
        )
        return name_inputs(model, read, source)

    inputs = read_inputs(arguments.calibration, arguments.count)
    preprocessing = _preprocessing(arguments, inputs)
    labels = () if arguments.labels is None else read_labels(arguments.labels, model, inputs)
    further = read_inputs(arguments.distill_inputs, None) if arguments.distill_inputs else None
    with cli.progress_bar("compress", 1000) as update, _naming(arguments.calibration):
        report = compress(
            model,
            inputs,
            bits=arguments.bits,
            zeros=arguments.zeros,
            budget=_budget(arguments),
            macs=arguments.macs,
            latency=arguments.latency,
            kernel_times=arguments.kernel_times,
            method=arguments.method,
            granularity=arguments.granularity,
            exclude=arguments.exclude or (),
            keep=not arguments.all_bits,
            correct=arguments.correct is not False,
            equalise=arguments.equalise,
            absorb=arguments.absorb,
            activations=arguments.activations,
            distill=arguments.distill,
            distill_inputs=further,
            seed=arguments.seed,
            on_progress=lambda share, detail: update(int(1000 * share), detail),
        )
    if isinstance(inputs, dict):
        shape: Any = {name: tuple(tensor.shape[1:]) for name, tensor in inputs.items()}
    else:
        shape = tuple(inputs.shape[1:])
    save(
        arguments.output,
        model,
        input_shape=shape,
        preprocessing=preprocessing,
        labels=labels,
        calibration_inputs=slice_inputs(inputs, slice(report.inputs)),
        held_inputs=slice_inputs(inputs, slice(count_inputs(inputs) - report.held_inputs, None)),
        activations=report.activations,
        metrics=report.metrics(),
        **saved_as,
    )
    if arguments.plot is not None and report.budget is not None:
        outcome = report.budget
        figure = figures.draw_frontier(
            outcome.kind,
            [(point.target, point.decibels) for point in report.frontier],
            asked=outcome.target,
            reached=(outcome.reached, report.measured_decibels),
        )
        figures.save_figure(figure, arguments.plot, force=True)
    cli.show_report(report, arguments.json)
    if str(arguments.json) != "-":
        print(f"{arguments.output} written")
    return 0 if all(outcome is None or outcome.met for outcome in (report.budget, report.channels)) else cli.EXIT_FAILED


@contextmanager
def _naming(source: str) -> Iterator[None]:
    """Say of wrong inputs where they are from."""
    try:
        yield
    except (CalibrationError, TraceError) as error:
        raise type(error)(f"{source}: {error}") from error


def _preprocessing(arguments: argparse.Namespace, inputs: Any) -> dict[str, list[float]]:
    """Say what was done to images, a number for each channel."""
    if arguments.mean is None and arguments.std is None:
        return {}
    from codeq.data.crop import TEST_CROP  # here, behind the parser
    from codeq.data.image_folder import MAX_PIXEL
    from codeq.data.normalise import per_channel

    if arguments.mean is None or arguments.std is None:
        raise CompressError("--mean and --std go together: images are normalised by both, or neither")
    if isinstance(inputs, dict) or inputs.ndim < 3:
        raise CompressError(f"--mean and --std are for images, and {arguments.calibration} has none; leave them out")
    channels = inputs.shape[1]
    wanted = f"1 or {channels} each for inputs of {channels} channels"
    mean, std = per_channel(arguments.mean, arguments.std, channels, arguments.calibration, wanted)
    return {"mean": mean, "std": std} | {"max_pixel": [float(MAX_PIXEL)], "crop": [TEST_CROP]}


def _check_plot(arguments: argparse.Namespace) -> None:
    """Say before the work starts whether the picture can be drawn and written."""
    path = arguments.plot
    if path is None:
        return
    if _budget(arguments) is None:
        raise CompressError("--plot draws what other budgets would leave; give one with --sparsity, --bops or --size")
    if path.resolve() == arguments.output.resolve():
        raise CompressError(f"--plot {path}: is the checkpoint that --output writes; name another file")
    from codeq.figures.style import check_figure  # here, behind the parser

    check_figure(path, force=arguments.force)


def _budget(arguments: argparse.Namespace) -> Budget | None:
    asked = {kind: getattr(arguments, kind, None) for kind in MARGINS}
    return next((Budget(kind, target) for kind, target in asked.items() if target is not None), None)


if __name__ == "__main__":
    cli.run(main)
