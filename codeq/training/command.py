"""`python -m codeq.train` does this once its flags are read: check the files, train on all ranks, print and write."""

import json
import logging
import os
import sys
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from codeq import checkpoint, figures
from codeq.channels.price import LATENCY_MARGIN, MARGIN
from codeq.errors import CheckpointError, DataError
from codeq.quantizer import fused
from codeq.run_log import RunLog, read_run
from codeq.toolkit import cli
from codeq.toolkit.files import sweep
from codeq.toolkit.locks import written_by_one
from codeq.toolkit.options import flag_of
from codeq.toolkit.table import fold_line, format_bytes
from codeq.training.distributed import Ranks, end_ranks, start_ranks
from codeq.training.recipe import HELD_FILES, TrainConfig
from codeq.training.run_files import check_run_files
from codeq.training.tensorboard import TensorBoardLog
from codeq.training.trainer import EpochResult, Trainer, TrainResult

PROGRESS_STEPS = 1000
TRIED_STEPS = 3


def run_training(arguments: dict[str, Any], asked: dict[str, Any], config: TrainConfig | None) -> int:
    """Train as the flags of `codeq.train` say.

    Args:
        arguments: All that its parser read.
        asked: Those of them that are fields of `TrainConfig` and were typed.
        config: The run; None where `--resume` brings it.

    Returns:
        The exit status.
    """
    resume, factory = None, _import_factory(asked)
    output = arguments["output"] or arguments["resume"] or Path("ckpt.pt")
    log = arguments["log"] or output.with_suffix(".jsonl")
    cli.set_threads(arguments["threads"])
    with ExitStack() as held:
        if not arguments["dry_run"] and os.environ.get("RANK", "0") == "0":
            paths = (path for path in (output, log, arguments["best"]) if path is not None)
            for path in {path.resolve(): path for path in paths}.values():
                held.enter_context(written_by_one(path, "training"))
                sweep(path)
        if config is None:
            resume = checkpoint.load(arguments["resume"], factory)
            config = _resumed_config(resume, asked)
        fused.set_compile(config.compile != "off")
        if not arguments["dry_run"]:
            _check_outputs(arguments, config, output, log)
        ranks = start_ranks()
        try:
            status = _train(partial(Trainer, config, resume=resume, factory=factory), ranks, arguments, output, log)
        except BaseException:
            end_ranks(wait=False)
            raise
        end_ranks(wait=status != cli.EXIT_INTERRUPTED)
    return status


def _resumed_config(resume: checkpoint.Checkpoint, asked: dict[str, Any]) -> TrainConfig:
    if resume.training is None or "config" not in resume.training:
        raise CheckpointError(f"{resume.path}: was not written by codeq.train, there is nothing to resume")
    if resume.training.get("complete") is True:
        raise CheckpointError(f"{resume.path}: the run is complete, there is nothing to resume")
    try:
        config = TrainConfig(**resume.training["config"])
    except (TypeError, ValueError) as error:
        raise CheckpointError(f"{resume.path}: its recipe does not fit this release ({error})") from error
    # What a file says about code is never followed: the factory and its arguments are asked for again.
    network: dict[str, Any] = {"model_args": None} if config.is_foreign else {}
    for name, value in (network | asked).items():
        stored_at = getattr(config, name)
        if name in HELD_FILES and value is not None and stored_at is not None:
            config = replace(config, **{name: value})  # what it holds is compared, not where it lies
        elif value != stored_at:
            flag = flag_of(TrainConfig, name)
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
    """Import the factory that the command line names; None for a network of the registry."""
    spec = asked.get("model", TrainConfig.model)
    return cli.import_factory(spec, asked.get("model_args")) if ":" in spec else None


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
    files = (*outputs.values(), resume, config.teacher, config.init, config.kernel_times)
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
    outcome, channels = _budget_outcome(config, result), _channels_outcome(config, result)
    if main_process:
        _report(trainer, result, outcome, channels, arguments, output, log)
    return 0 if all(found is None or found["met"] for found in (outcome, channels)) else cli.EXIT_FAILED


def _budget_outcome(config: TrainConfig, result: TrainResult) -> dict[str, Any] | None:
    """Say where a run ended, next to its budget."""
    if config.budget is None:
        return None
    budget, reached = config.budget, config.budget.of(result.cost)
    met = abs(reached - budget.target) <= budget.margin
    return {"kind": budget.kind, "target": budget.target, "reached": reached, "margin": budget.margin, "met": met}


def _channels_outcome(config: TrainConfig, result: TrainResult) -> dict[str, Any] | None:
    """Say what is left once `shrink` has taken dead channels out, next to the budget."""
    if config.channels is None or result.shrunk is None:
        return None
    kind, reached, margin = "macs", result.shrunk.left, MARGIN * config.channels
    about: dict[str, Any] = {}
    if result.latency is not None:
        kind, reached, margin = "latency", result.latency.share, LATENCY_MARGIN * config.channels
        about = asdict(result.latency)
    met = abs(reached - config.channels) <= margin
    return {"kind": kind, "target": config.channels, "reached": reached, "margin": margin, "met": met} | about


def _report(
    trainer: Trainer,
    result: TrainResult,
    outcome: dict[str, Any] | None,
    channels: dict[str, Any] | None,
    arguments: dict[str, Any],
    output: Path,
    log: Path,
) -> None:
    config, budget = trainer.config, trainer.config.budget
    if arguments["plot"] is not None:
        figures.save_figure(figures.draw_progress(read_run(log)), arguments["plot"], force=True)
    if str(arguments["json"]) != "-":
        print(result.cost)
        if trainer.attached is not None:
            print(fold_line(trainer.attached.signal_text, 2))
        achieved = f"test accuracy {result.test_accuracy:.2%}, zeros {result.cost.sparsity:.1%}"
        print(f"{achieved}, bits {result.cost.mean_bits:.2f}")
        if budget is not None and outcome is not None:
            print(f"budget {budget}: {budget.format(outcome['reached'])} reached")
        if result.shrunk is not None:
            print(fold_line(f"channels: {result.shrunk.line}", 2))
        if result.latency is not None:
            print(fold_line(f"latency: {result.latency}", 2))
        print(fold_line(f"{output} written, log {log}", 2))
    report = {"config": asdict(config), "test_accuracy": result.test_accuracy, "cost": result.cost.to_dict()}
    history = [asdict(row) for row in result.history]
    attached = None if trainer.attached is None else trainer.attached.to_dict()
    report |= {"budget": outcome, "channels": channels, "attached": attached, "history": history}
    cli.write_json(arguments["json"], report)
    if channels is not None and not channels["met"]:
        what = "multiply-adds" if channels["kind"] == "macs" else "latency"
        asked, reached = (f"{channels[name]:.1%}" for name in ("target", "reached"))
        print(f"warning: of the {what} {asked} was to be left, and {reached} is", file=sys.stderr)
    if budget is not None and outcome is not None and not outcome["met"]:
        other = "" if config.optimizer == "sgd" else ", use --optimizer sgd"
        print(
            f"warning: the budget was missed: {budget} asked for, {budget.format(outcome['reached'])} reached, "
            f"margin {budget.format(budget.margin)}; train for longer{other}, or ask for less",
            file=sys.stderr,
        )


def _describe(trainer: Trainer, seconds: float) -> str:
    """Say what a run would be, for `--dry-run`."""
    config, data = trainer.config, trainer.data
    parameters = sum(parameter.numel() for parameter in trainer.model.parameters())
    grids = "no grids (float)" if config.is_float else f"grids frozen from step {trainer.freeze_step:,}"
    target = f"budget {config.budget}" if config.budget else f"lambda_dz {config.lambda_dz or 0:g}"
    what = "multiply-adds" if config.latency is None else "latency"
    target += "" if config.channels is None else f", {config.channels:.1%} of the {what}"
    shape = " x ".join(map(str, data.input_shape))
    return "\n".join(
        fold_line(line, 9)
        for line in [
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
