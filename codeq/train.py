"""`python -m codeq.train`: train a network with learnable dead zones (loop: trainer.py, settings: recipe.py)."""

import argparse
import json
import logging
import re
import sys
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict, fields
from functools import partial
from pathlib import Path
from typing import Any

import torch

import models
from codeq import checkpoint, figures
from codeq.errors import CheckpointError, DataError
from codeq.quantizer import fused
from codeq.quantizer.dead_zone import THETA_GRADIENTS
from codeq.toolkit import cli
from codeq.toolkit.table import format_bytes
from codeq.training.distributed import Ranks, end_ranks, start_ranks
from codeq.training.recipe import ACTIVATIONS, AUTOCAST, FLOAT_BITS, MAX_LR, OPTIMIZERS, RECIPES, TrainConfig, resolve
from codeq.training.run_files import check_run_files
from codeq.training.run_log import RunLog, read_run
from codeq.training.tensorboard import TensorBoardLog
from codeq.training.trainer import EpochResult, Trainer, TrainResult

PROGRESS_STEPS = 1000
TRIED_STEPS = 3
SIZE_UNITS = {"B": 1, "kB": 1000, "MB": 10**6, "GB": 10**9, "KiB": 2**10, "MiB": 2**20}


def _bits(text: str) -> int | None:
    if text == "mixed":
        return None
    value = int(text) if text.isdecimal() else 0
    if value != FLOAT_BITS and not 2 <= value <= 8:
        raise argparse.ArgumentTypeError(
            f"expected 2 to 8, mixed (learned per layer), or 32 (float twin), found {text!r}"
        )
    return value


def _size(text: str) -> float:
    found = re.fullmatch(r"([0-9.]+) *([A-Za-z]*)", text.strip())
    try:
        value = float(found[1]) * SIZE_UNITS[found[2] or "B"] if found else 0.0
    except (ValueError, KeyError):
        value = 0.0
    if not 1 <= value <= 1e15:
        raise argparse.ArgumentTypeError(f"expected bytes with a unit such as 200kB or 1.5MB, found {text!r}")
    return value


def _share(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 < value < 1:
        raise argparse.ArgumentTypeError(f"expected a share above 0 and below 1, such as 0.9, found {text!r}")
    return value


def _model(text: str) -> str:
    if text not in models.MODELS and ":" not in text:
        raise argparse.ArgumentTypeError(
            f"expected one of {', '.join(models.MODELS)}, or package.module:factory, found {text!r}"
        )
    return text


def _build_parser() -> argparse.ArgumentParser:
    parser = cli.build_parser(
        "codeq.train",
        "Train a network with learnable dead zones and write a checkpoint that export needs nothing beside. "
        "An option that would do nothing beside the others is refused.",
        "torchrun --nproc-per-node 2 -m codeq.train --data cifar10:DIR --bits mixed --bops 0.02\n"
        "  python -m codeq.train --model resnet8 --data digits --bits 4 --sparsity 0.9 -o ckpt.pt",
    )
    default = TrainConfig()
    choices: dict[str, Any] = {}

    # Options of the recipe have no argparse default, so that --resume can tell what was asked for from what was not.
    def recipe(flag: str, description: str, shown: str | None = None, **options: Any) -> None:
        name = flag.removeprefix("--").replace("-", "_")
        value = shown or choices.get(name) or getattr(default, name)
        group.add_argument(flag, default=argparse.SUPPRESS, help=f"{description} (default: {value})", **options)

    group = parser.add_argument_group("network and data")
    names = f"network: {', '.join(models.MODELS)}, or package.module:factory"
    recipe("--model", names, metavar="NAME", type=_model)
    recipe("--model-args", cli.MODEL_ARGS_HELP, "none", metavar="JSON", type=cli.json_object)
    recipe("--data", "digits; idx:DIR (MNIST and its kin); cifar10:DIR (binary version); images:DIR (train/, val/)")
    recipe("--input-size", "with images:DIR: side of the inputs in pixels", type=cli.integer(1, 4096))
    recipe("--shift", "augmentation: random shift in pixels", "by data set", type=cli.integer(0, 64))
    recipe("--flip", "augmentation: mirror at random", "by data set", action=argparse.BooleanOptionalAction)
    recipe("--init", "start from the float weights in this file", "none", metavar="FILE")
    group = parser.add_argument_group("what the network may cost: one of these, or lambda")
    recipe("--bits", "weight bits: 2 to 8, mixed, or 32 for the float twin", type=_bits)
    recipe("--sparsity", "share of zeros, such as 0.9", "none", type=_share)
    recipe("--bops", "bit operations of the dense float32 network's, such as 0.04", "none", type=_share)
    recipe("--size", "bytes by the entropy bound, such as 200kB", "none", type=_size)
    recipe("--lambda-dz", "pull on the dead zones: more means more zeros", "by recipe", type=cli.number(0, MAX_LR))
    recipe(
        "--lambda-bit",
        "with --bits mixed, but not --bops or --size: pull on bits, more means fewer",
        type=cli.number(0, MAX_LR),
    )
    recipe(
        "--bit-ratio",
        "with --bits mixed and --bops or --size: the pull on bits over that on dead zones",
        type=cli.number(0, 100),
    )
    group = parser.add_argument_group("quantizer (not with --bits 32)")
    recipe(
        "--grid", "integer is deployable as trained; paper is the operator as published", choices=["integer", "paper"]
    )
    recipe("--grid-limit", "largest code of the integer grid; 63 is safe on x86 without VNNI", type=cli.integer(7, 127))
    recipe("--theta-init", "where theta_dz starts", "3, and 0.55 at 2 bits", type=cli.number(0.25, 4))
    recipe("--theta-gradient", "lsq normalises it by layer: fewer bytes", choices=list(THETA_GRADIENTS))
    recipe("--freeze-fraction", "last part of the run, with grids frozen", type=cli.number(0, 1))
    recipe("--activations", "int8 learns uint8 activation scales on the frozen integer grid", choices=list(ACTIVATIONS))
    group = parser.add_argument_group("training")
    group.add_argument(
        "--recipe",
        choices=list(RECIPES),
        help="what the other options default to (default: ours; see docs/training.md)",
    )
    recipe("--epochs", "passes over the training set", type=cli.integer(1))
    recipe("--batch-size", "inputs per step, over all processes", type=cli.integer(2))
    recipe("--optimizer", "of the weights", choices=list(OPTIMIZERS))
    recipe("--lr", "learning rate of the weights", "0.1, adamw 0.006", type=cli.number(0, MAX_LR, above=True))
    recipe("--momentum", "with --optimizer sgd", type=cli.number(0, 0.9999))
    recipe("--weight-decay", "decay of the weights", "0.0005, adamw 0.01", type=cli.number(0, MAX_LR))
    recipe("--warmup-fraction", "first part of the run, in which the learning rate rises", type=cli.number(0, 1))
    recipe("--label-smoothing", "share of the labels spread over all classes", type=cli.number(0, 0.99))
    recipe(
        "--clip-norm",
        "largest norm of the weights' and of the thetas' gradients; 0 is none",
        "1 for depthwise convolutions under sgd, else 0",
        type=cli.number(0, 1e9),
    )
    recipe("--teacher", "checkpoint to distil from, such as the float twin's", "none", metavar="CKPT")
    recipe("--teacher-weight", "with --teacher: its share of the loss", type=cli.number(0, 1))
    recipe("--temperature", "with --teacher: of its outputs", type=cli.number(1e-2, 1e3))
    recipe("--autocast", "compute layers in bfloat16; weights stay float32", choices=list(AUTOCAST))
    recipe("--seed", "of initialisation, order and augmentation", type=cli.integer(0))
    group = parser.add_argument_group("running")
    group.add_argument(
        "--resume", type=Path, metavar="CKPT", help="continue an unfinished run with its own recipe and files"
    )
    group.add_argument("--dry-run", action="store_true", help="say what a run would be, try three steps, write nothing")
    group.add_argument("--threads", type=cli.integer(1, 1024), help="CPU threads (default: torch's choice)")
    group.add_argument(
        "--workers", type=cli.integer(0, 1024), help="threads that decode images (default: as --threads)"
    )
    group.add_argument("--device", default="cpu", help="where to compute: cpu, cuda or cuda:N")
    group.add_argument("--no-compile", action="store_true", help="leave torch.compile out of the quantizer")
    group = parser.add_argument_group("files")
    group.add_argument(
        "-o", "--output", type=Path, help="checkpoint to write (default: ckpt.pt, or with --resume the same file)"
    )
    group.add_argument("--best", type=Path, metavar="CKPT", help="also keep the best epoch of those on frozen grids")
    group.add_argument("--log", type=Path, metavar="FILE", help="JSON lines (default: the output's name with .jsonl)")
    group.add_argument("--tensorboard", type=Path, metavar="DIR", help="write TensorBoard events there")
    group.add_argument("--plot", type=Path, metavar="FILE", help="draw bits and zeros per layer, PNG or SVG")
    group.add_argument("--force", action="store_true", help="overwrite existing outputs, never what the run reads")
    group.add_argument("--json", type=Path, metavar="FILE", help="write metrics and costs; - is stdout")
    return parser


def _resumed_config(resume: checkpoint.Checkpoint, asked: dict[str, Any]) -> TrainConfig:
    if resume.training is None or "config" not in resume.training:
        raise CheckpointError(f"{resume.path}: was not written by codeq.train, there is nothing to resume")
    if resume.training.get("complete"):
        raise CheckpointError(f"{resume.path}: the run is complete, there is nothing to resume")
    try:
        config = TrainConfig(**resume.training["config"])
    except (TypeError, ValueError) as error:
        raise CheckpointError(f"{resume.path}: its recipe does not fit this release ({error})") from error
    # What a file says about code is never followed: the factory and its arguments are asked for again.
    network: dict[str, Any] = {"model_args": None} if config.is_foreign else {}
    for name, value in (network | asked).items():
        if value != getattr(config, name):
            flag = "--" + name.replace("_", "-")
            stored, found = (_as_typed(name, item) for item in (getattr(config, name), value))
            repeat = config.is_foreign and name in ("model", "model_args")
            advice = "repeat what it was started with" if repeat else f"leave {flag} out"
            raise CheckpointError(f"{resume.path}: was started with {flag} {stored}, not {found}; {advice}")
    return config


def _as_typed(name: str, value: Any) -> str:
    if value is None:
        return "mixed" if name == "bits" else "none"
    return f"'{json.dumps(value)}'" if name == "model_args" else str(value)


def _import_factory(asked: dict[str, Any]) -> Callable[[], torch.nn.Module] | None:
    """The factory that the command line names; None for a network of the registry."""
    spec = asked.get("model", TrainConfig.model)
    return cli.import_factory(spec, asked.get("model_args")) if ":" in spec else None


def main(argv: list[str] | None = None) -> int:
    """`python -m codeq.train`; see `--help`."""
    arguments = vars(_build_parser().parse_args(argv))
    asked = {field.name: arguments[field.name] for field in fields(TrainConfig) if field.name in arguments}
    resume, factory = None, _import_factory(asked)
    if arguments["resume"] is None:
        config = resolve(arguments["recipe"] or "ours", asked)
    else:
        if arguments["recipe"] is not None:
            raise CheckpointError(f"{arguments['resume']}: brings its own recipe; leave --recipe out")
        resume = checkpoint.load(arguments["resume"], factory)
        config = _resumed_config(resume, asked)
    output = arguments["output"] or arguments["resume"] or Path("ckpt.pt")
    log = arguments["log"] or output.with_suffix(".jsonl")
    if not arguments["dry_run"]:
        _check_outputs(arguments, config, output, log)
    if arguments["threads"]:
        torch.set_num_threads(arguments["threads"])
    fused.set_compile(not arguments["no_compile"])
    ranks = start_ranks()
    try:
        status = _train(partial(Trainer, config, resume=resume, factory=factory), ranks, arguments, output, log)
    except BaseException:
        end_ranks(wait=False)
        raise
    end_ranks(wait=status != cli.EXIT_INTERRUPTED)
    return status


def _train(prepare: Callable[..., Trainer], ranks: Ranks, arguments: dict[str, Any], output: Path, log: Path) -> int:
    if not ranks.is_main:
        logging.getLogger().setLevel(logging.ERROR)
    workers = arguments["workers"] if arguments["workers"] is not None else torch.get_num_threads()
    device = _device(arguments["device"], ranks)
    trainer = prepare(ranks=ranks, device=device, workers=workers)
    if arguments["dry_run"]:
        if ranks.is_main:
            print(trainer.attached or trainer.model)
        seconds = [trainer.try_step() for _ in range(TRIED_STEPS)]
        if ranks.is_main:
            print(_describe(trainer, seconds[-1]))
        return 0
    return _run(trainer, arguments, output, log)


def _check_outputs(arguments: dict[str, Any], config: TrainConfig, output: Path, log: Path) -> None:
    """Say before the work starts whether everything may be written."""
    force, resume = arguments["force"], arguments["resume"]
    outputs = {"--output": output, "--log": log, "--best": arguments["best"], "--plot": arguments["plot"]}
    check_run_files(outputs, config, resume=resume, force=force)
    if arguments["plot"] is not None:
        figures.check_figure(arguments["plot"], force=force)
    files = (*outputs.values(), resume, config.teacher, config.init)
    cli.check_json(arguments["json"], *(Path(path) for path in files if path is not None), force=force)


def _device(name: str, ranks: Ranks) -> torch.device:
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
        usable = device.type in ("cpu", "cuda")
    except (RuntimeError, AssertionError):
        usable = False
    if not usable:
        raise DataError(f"--device {name}: is not available here; use cpu")
    if device.type == "cuda" and device.index is None and ranks.world_size > 1:
        return torch.device("cuda", torch.cuda.current_device())
    return device


def _run(trainer: Trainer, arguments: dict[str, Any], output: Path, log: Path) -> int:
    config, main_process = trainer.config, trainer.ranks.is_main
    last = ""

    def remember(row: EpochResult) -> None:
        nonlocal last
        last = f"epoch {row.epoch + 1}/{config.epochs}  {row}"

    try:
        with ExitStack() as stack:
            sinks: list[Callable[[dict[str, Any]], None]] = []
            update: Callable[[int, str], None] = lambda completed, detail: None  # noqa: E731
            if main_process:
                # The log last: it replaces an old one, which must not be lost to a folder that cannot be written.
                if arguments["tensorboard"] is not None:
                    sinks.append(stack.enter_context(TensorBoardLog(arguments["tensorboard"])).write)
                sinks.append(stack.enter_context(RunLog(log, resumed_epoch=len(trainer.history))).write)
                title = f"{config.model} on {config.data}"
                update = stack.enter_context(cli.progress_bar(title, PROGRESS_STEPS))

            def show(step: int, steps: int, loss: float) -> None:
                update(PROGRESS_STEPS * step // steps, last or f"loss {loss:.4f}")

            def record(entry: dict[str, Any]) -> None:
                for sink in sinks:
                    sink(entry)

            result = trainer.run(output, best=arguments["best"], on_epoch=remember, on_step=show, record=record)
    except KeyboardInterrupt:
        if main_process and trainer.saved is not None:
            saved = trainer.saved
            print(f"stopped; {saved} holds the last whole epoch, continue with --resume {saved}", file=sys.stderr)
        return cli.EXIT_INTERRUPTED
    outcome = _budget_outcome(config, result)
    if main_process:
        _report(trainer, result, outcome, arguments, output, log)
    return 0 if outcome is None or outcome["met"] else cli.EXIT_FAILED


def _budget_outcome(config: TrainConfig, result: TrainResult) -> dict[str, Any] | None:
    """Where a run ended, next to its budget."""
    if config.budget is None:
        return None
    budget, reached = config.budget, config.budget.of(result.cost)
    met = abs(reached - budget.target) <= budget.margin
    return {"kind": budget.kind, "target": budget.target, "reached": reached, "margin": budget.margin, "met": met}


def _report(
    trainer: Trainer,
    result: TrainResult,
    outcome: dict[str, Any] | None,
    arguments: dict[str, Any],
    output: Path,
    log: Path,
) -> None:
    config, budget = trainer.config, trainer.config.budget
    if arguments["plot"] is not None:
        figures.save_figure(figures.draw_progress(read_run(log)), arguments["plot"], force=True)
    if str(arguments["json"]) != "-":
        print(result.cost)
        achieved = f"test accuracy {result.test_accuracy:.2%}, zeros {result.cost.sparsity:.1%}"
        print(f"{achieved}, bits {result.cost.mean_bits:.2f}")
        if budget is not None and outcome is not None:
            print(f"budget {budget}: {budget.format(outcome['reached'])} reached")
        print(f"{output} written, log {log}")
    report = {"config": asdict(config), "test_accuracy": result.test_accuracy, "cost": result.cost.to_dict()}
    history = [asdict(row) for row in result.history]
    cli.write_json(arguments["json"], report | {"budget": outcome, "history": history})
    if budget is not None and outcome is not None and not outcome["met"]:
        other = "" if config.optimizer == "sgd" else ", use --optimizer sgd"
        print(
            f"warning: the budget was missed: {budget} asked for, {budget.format(outcome['reached'])} reached, "
            f"margin {budget.format(budget.margin)}; train for longer{other}, or ask for less",
            file=sys.stderr,
        )


def _describe(trainer: Trainer, seconds: float) -> str:
    """What a run would be, for `--dry-run`."""
    config, data = trainer.config, trainer.data
    parameters = sum(parameter.numel() for parameter in trainer.model.parameters())
    grids = "no grids (float)" if config.is_float else f"grids frozen from step {trainer.freeze_step:,}"
    target = f"budget {config.budget}" if config.budget else f"lambda_dz {config.lambda_dz or 0:g}"
    shape = " x ".join(map(str, data.input_shape))
    return "\n".join(
        [
            f"data     {len(data.train):,} training and {len(data.test):,} test inputs of {shape}, "
            f"{data.num_classes} classes",
            f"network  {config.model}, {parameters:,} parameters ({format_bytes(4 * parameters)})",
            f"run      {config.epochs} epochs of {trainer.batch_count:,} steps, {grids}, "
            f"{trainer.ranks.world_size} process(es)",
            f"target   {'accuracy alone' if config.is_float else target}",
            f"a step   {1000 * seconds:.0f} ms: about {_duration(seconds * trainer.steps)} without evaluation",
            "nothing was written",
        ]
    )


def _duration(seconds: float) -> str:
    for size, unit in ((3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} s"


if __name__ == "__main__":
    cli.run(main)
