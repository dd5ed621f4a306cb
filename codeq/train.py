"""Train a network with CoDeQ: `python -m codeq.train`, and the same as a function.

The schedule: weights under AdamW with a cosine learning rate; thetas under the paper's dynamics (optim.py), with the
learning rate scaled so that theta travels as far as in the paper's longest recipe however short the run is; grids
frozen for the last part; BatchNorm re-estimated at the end.
"""

import argparse
import math
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import models
from codeq import checkpoint, cli
from codeq.batch_norm import reestimate_batch_norm
from codeq.cost import CostSummary, summary
from codeq.data import AUGMENTATION_DRAWS, SOURCES, Dataset, Split, batches, load_dataset
from codeq.errors import CheckpointError, CodeqError, DataError
from codeq.files import check_writable
from codeq.layers import attach, encode, freeze
from codeq.learned_step import QuantizedActivations
from codeq.optim import param_groups

FLOAT_BITS = 32
PAPER_THETA_TRAVEL = 1e-3 * 300 * 98
"""Learning rate of theta times optimizer steps in the paper's ResNet-20 recipe (1e-3, 300 epochs of 50,000 / 512).
Shorter runs raise the rate to keep the product, so that a lambda means the same sparsity in any of them."""
MAX_THETA_LR = 0.2
MAX_LR = 1e3
"""Far above anything that trains, far below what leaves float32."""
PROGRESS_STEPS = 1000
STORED_INPUTS = 128
"""Inputs kept in the checkpoint from each of the training and the test set."""
BATCH_NORM_BATCHES = 100
ACTIVATIONS = ("float32", "int8")
ACTIVATION_LR = 1e-3
"""Of the activation quantizers, whose parameters are relative: log2 of a scale, share of a range."""


class DivergedError(CodeqError):
    """The loss became NaN or infinite."""


@dataclass(frozen=True)
class TrainConfig:
    """Everything that determines a run. Two runs of one config on one machine give the same bits.

    Attributes:
        model: Registry name.
        data: As for `load_dataset`.
        bits: 2 to 8, None to learn bit widths, 32 for the float twin (no quantizers).
        epochs, batch_size, seed: As everywhere.
        lr, weight_decay: Of the weights, AdamW.
        lambda_dz: More means more zeros. lambda_bit: more means fewer bits, when they are learned.
        grid, grid_limit: As for `DeadZoneQuantizer`.
        shift: Augmentation: random shift in pixels; None as for `load_dataset`.
        freeze_fraction: Last part of the epochs, with grids frozen.
        activations: "float32", or "int8" to learn uint8 activation scales in that last part.
    """

    model: str = "resnet8"
    data: str = "digits"
    bits: int | None = 4
    epochs: int = 60
    batch_size: int = 32
    lr: float = 6e-3
    weight_decay: float = 1e-2
    lambda_dz: float = 0.25
    lambda_bit: float = 0.01
    grid: str = "integer"
    grid_limit: int = 127
    shift: int | None = None
    freeze_fraction: float = 0.2
    activations: str = "float32"
    seed: int = 0

    def __post_init__(self) -> None:
        ranges: dict[str, tuple[float, float]] = {
            "epochs": (1, 10**6),
            "batch_size": (2, 10**6),
            "lr": (0, MAX_LR),
            "weight_decay": (0, MAX_LR),
            "lambda_dz": (0, MAX_LR),
            "lambda_bit": (0, MAX_LR),
            "freeze_fraction": (0, 1),
            "seed": (0, 2**63 - 1),
        }
        for name, (low, high) in ranges.items():
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
                raise ValueError(f"{name} must be a number from {low} to {high}, found {value!r}")
        if self.bits is not None and self.bits != FLOAT_BITS and self.bits not in range(2, 9):
            raise ValueError(f"bits must be 2 to 8, None (learned) or {FLOAT_BITS} (float), found {self.bits!r}")
        if self.activations not in ACTIVATIONS:
            raise ValueError(f"activations must be one of {', '.join(ACTIVATIONS)}, found {self.activations!r}")
        if self.activations == "int8" and (self.is_float or self.grid != "integer"):
            raise DataError(
                "--activations int8 needs quantized weights on the integer grid; leave --bits 32 and --grid out"
            )

    @property
    def is_float(self) -> bool:
        """Whether this is the float twin."""
        return self.bits == FLOAT_BITS

    @property
    def freeze_epoch(self) -> int:
        """The first epoch (from 0) that trains on frozen grids."""
        return self.epochs - math.floor(self.epochs * self.freeze_fraction)


@dataclass(frozen=True)
class EpochResult:
    """What an epoch gave: mean training loss; test accuracy and zeros in [0, 1]; mean bits per quantized weight."""

    epoch: int
    loss: float
    test_accuracy: float
    sparsity: float
    bits: float

    def __str__(self) -> str:
        return (
            f"loss {self.loss:.4f}  accuracy {self.test_accuracy:.2%}  zeros {self.sparsity:.1%}  bits {self.bits:.2f}"
        )


@dataclass(frozen=True, eq=False)
class TrainResult:
    """The trained network in eval mode, its test accuracy after BatchNorm was re-estimated, and its costs."""

    model: nn.Module
    test_accuracy: float
    cost: CostSummary
    history: tuple[EpochResult, ...]


def train(
    config: TrainConfig,
    output: Path,
    *,
    resume: checkpoint.Checkpoint | None = None,
    on_epoch: Callable[[EpochResult], None] = lambda result: None,
    on_step: Callable[[int, int, float], None] = lambda step, steps, loss: None,
) -> TrainResult:
    """Run a configuration. `output` holds a loadable checkpoint from the start, replaced after every epoch.

    Args:
        config: The run. With `resume`, the config stored there.
        output: Where the checkpoint goes.
        resume: A checkpoint of an unfinished run of `config`: the rest of the run is bit-identical to an
            uninterrupted one (same machine, same number of threads).
        on_epoch: Called after each epoch.
        on_step: Called after each optimizer step with its number from 1, their total, and the loss.

    Raises:
        DataError, CheckpointError, OutputError: Bad input, before training starts.
        DivergedError: The loss became NaN or infinite; `output` holds the last good epoch.
    """
    data = load_dataset(config.data, shift=config.shift)
    torch.manual_seed(config.seed)
    generator = torch.Generator().manual_seed(config.seed)
    arguments = {
        "in_channels": data.input_shape[0],
        "num_classes": data.num_classes,
        "input_size": data.input_shape[1],
    }
    if len(data.train) < 2:
        raise DataError(f"{config.data}: one training image is too few")
    if resume is None:
        try:
            model = models.create(config.model, **arguments)
        except ValueError as error:
            raise DataError(f"{config.data} does not fit {config.model}: {error}") from error
        if not config.is_float:
            attach(model, config.bits, grid=config.grid, grid_limit=config.grid_limit)
    else:
        model = resume.model
        if resume.input_shape != data.input_shape:
            raise CheckpointError(
                f"{resume.path}: is for inputs {resume.input_shape}, {config.data} has {data.input_shape}"
            )

    steps = len(_split(torch.arange(len(data.train)), config.batch_size)) * config.epochs
    calibration_inputs = data.train.load(torch.arange(min(STORED_INPUTS, len(data.train))))
    held_inputs = data.test.load(torch.arange(min(STORED_INPUTS, len(data.test))))
    groups = param_groups(
        model,
        torch.optim.AdamW,
        lr=config.lr,
        weight_decay=config.weight_decay,
        theta_lr=min(PAPER_THETA_TRAVEL / steps, MAX_THETA_LR),
        lambda_dz=config.lambda_dz,
        lambda_bit=config.lambda_bit,
    )
    quantized = None
    if config.activations == "int8":
        quantized = QuantizedActivations(model, (calibration_inputs[:2],))
        groups.append({"params": list(quantized.quantizers.parameters()), "lr": ACTIVATION_LR, "weight_decay": 0.0})
    optimizer = torch.optim.AdamW(groups)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 0.5 * (1 + math.cos(math.pi * step / steps)))
    network: nn.Module = model if quantized is None else quantized
    history: list[EpochResult] = []
    if resume is not None:
        state = resume.training or {}
        try:
            optimizer.load_state_dict(state["optimizer"])
            scheduler.load_state_dict(state["scheduler"])
            generator.set_state(state["generator"])
            history = [EpochResult(**row) for row in state["history"]]
            if quantized is not None:
                quantized.quantizers.load_state_dict(state["activation_quantizers"])
                quantized.calibrated.fill_(len(history) > config.freeze_epoch)  # type: ignore[operator]
        except (KeyError, TypeError, ValueError, RuntimeError, AttributeError) as error:
            raise CheckpointError(f"{resume.path}: its training state is damaged ({error})") from error

    def save(training: dict[str, Any], metrics: dict[str, float]) -> None:
        checkpoint.save(
            output,
            model,
            input_shape=data.input_shape,
            name=config.model,
            arguments=arguments,
            preprocessing={"mean": data.mean, "std": data.std},
            calibration_inputs=calibration_inputs,
            held_inputs=held_inputs,
            metrics=metrics,
            training={"config": asdict(config), "history": [asdict(row) for row in history]} | training,
            activations=None if quantized is None or not quantized.calibrated else quantized.encodings(),
        )

    def unfinished() -> dict[str, Any]:
        return {
            "complete": False,
            "optimizer": optimizer.state_dict(),
            "scheduler": scheduler.state_dict(),
            "generator": generator.get_state(),
            "activation_quantizers": None if quantized is None else quantized.quantizers.state_dict(),
        }

    def finish_grids() -> None:
        freeze(model)
        if quantized is not None:
            quantized.calibrate((calibration_inputs,))

    if not history:
        save(unfinished(), {})
    for epoch in range(len(history), config.epochs):
        if epoch == config.freeze_epoch:
            finish_grids()
        loss = _train_epoch(network, data, config, optimizer, scheduler, generator, steps, on_step)
        if not math.isfinite(loss):
            raise DivergedError(
                f"the loss became {loss} in epoch {epoch + 1}; {output} holds epoch {epoch}; try a smaller --lr"
            )
        history.append(_epoch_result(model, evaluate(network, data.test), epoch, loss))
        save(unfinished(), {"test_accuracy": history[-1].test_accuracy})
        on_epoch(history[-1])

    if config.freeze_epoch == config.epochs:
        finish_grids()  # the run was too short to have a last part
    indices = torch.arange(len(data.train)).split(config.batch_size)[:BATCH_NORM_BATCHES]
    reestimate_batch_norm(network, (inputs for inputs, _ in batches(data.train, indices)))
    model.eval()
    accuracy = evaluate(network, data.test)
    cost = summary(model, data.input_shape)
    metrics = {
        "test_accuracy": accuracy,
        "sparsity": cost.sparsity,
        "mean_bits": cost.mean_bits,
        "relative_bops": cost.relative_bops,
        "entropy_bytes": cost.entropy_bytes,
    }
    save({"complete": True}, metrics)
    return TrainResult(model, accuracy, cost, tuple(history))


@torch.no_grad()
def evaluate(model: nn.Module, split: Split, batch_size: int = 500) -> float:
    """Share of inputs whose largest output is at their label, in eval mode; the network's mode is left as it was."""
    training = model.training
    model.eval()
    correct = 0
    for inputs, labels in batches(split, torch.arange(len(split)).split(batch_size)):
        correct += int((model(inputs).argmax(1) == labels).sum())
    model.train(training)
    return correct / len(split)


def _train_epoch(
    model: nn.Module,
    data: Dataset,
    config: TrainConfig,
    optimizer: torch.optim.Optimizer,
    scheduler: torch.optim.lr_scheduler.LRScheduler,
    generator: torch.Generator,
    steps: int,
    on_step: Callable[[int, int, float], None],
) -> float:
    """One pass over the training set; mean loss, NaN as soon as one batch's loss is not finite."""
    model.train()
    total = 0.0
    for inputs, labels in _batches(data, config, generator):
        loss = F.cross_entropy(model(inputs), labels)
        value = loss.item()
        if not math.isfinite(value):
            return value
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        scheduler.step()
        total += value * len(labels)
        on_step(scheduler.last_epoch, steps, value)
    return total / len(data.train)


def _batches(data: Dataset, config: TrainConfig, generator: torch.Generator) -> Iterator[tuple[Tensor, Tensor]]:
    indices = _split(torch.randperm(len(data.train), generator=generator), config.batch_size)
    draws = [torch.rand(len(index), AUGMENTATION_DRAWS, generator=generator) for index in indices]
    return batches(data.train, indices, draws)


def _split(order: Tensor, batch_size: int) -> tuple[Tensor, ...]:
    """Batches of an epoch; a last one of a single input joins the one before: BatchNorm has no variance of one."""
    batches = order.split(batch_size)
    if len(batches) > 1 and len(batches[-1]) == 1:
        return (*batches[:-2], torch.cat(batches[-2:]))
    return batches


def _epoch_result(model: nn.Module, accuracy: float, epoch: int, loss: float) -> EpochResult:
    encodings = encode(model).values()
    numel = sum(encoding.codes.numel() for encoding in encodings)
    return EpochResult(
        epoch=epoch,
        loss=loss,
        test_accuracy=accuracy,
        sparsity=1 - sum(encoding.nnz for encoding in encodings) / numel if numel else 0.0,
        bits=sum(encoding.bit_width * encoding.codes.numel() for encoding in encodings) / numel
        if numel
        else FLOAT_BITS,
    )


def _bits(text: str) -> int | None:
    if text == "mixed":
        return None
    value = int(text) if text.isdecimal() else 0
    if value != FLOAT_BITS and not 2 <= value <= 8:
        raise argparse.ArgumentTypeError(
            f"expected 2 to 8, mixed (learned per layer), or 32 (float twin), found {text!r}"
        )
    return value


def _build_parser() -> argparse.ArgumentParser:
    parser = cli.build_parser(
        "codeq.train",
        "Train a network with learnable dead zones and write a checkpoint that export needs nothing beside.",
        "python -m codeq.train --model resnet8 --data digits --bits 4 -o ckpt.pt",
    )
    default = TrainConfig()

    # Options of the recipe have no argparse default, so that --resume can tell what was asked for from what was not.
    def recipe(flag: str, description: str, **options: Any) -> None:
        value = getattr(default, flag.removeprefix("--").replace("-", "_"))
        shown = "by image size" if value is None else value
        parser.add_argument(flag, default=argparse.SUPPRESS, help=f"{description} (default: {shown})", **options)

    recipe("--model", "network", choices=list(models.MODELS))
    recipe("--data", SOURCES)
    recipe("--bits", "weight bits: 2 to 8, mixed, or 32 for the float twin", type=_bits)
    recipe("--epochs", "passes over the training set", type=cli.integer(1))
    recipe("--batch-size", "inputs per step", type=cli.integer(2))
    recipe("--lr", "learning rate of the weights", type=cli.number(0, MAX_LR, above=True))
    recipe("--weight-decay", "decay of the weights", type=cli.number(0, MAX_LR))
    recipe("--lambda-dz", "pull on the dead zones: more means more zeros", type=cli.number(0, MAX_LR))
    recipe("--lambda-bit", "pull on learned bits: more means fewer", type=cli.number(0, MAX_LR))
    recipe(
        "--grid", "integer is deployable as trained; paper is the operator as published", choices=["integer", "paper"]
    )
    recipe("--grid-limit", "largest code; 63 is safe on x86 without VNNI", type=cli.integer(7, 127))
    recipe("--activations", "int8 learns uint8 activation scales in the last part", choices=list(ACTIVATIONS))
    recipe("--shift", "augmentation: random shift in pixels", type=cli.integer(0, 64))
    recipe("--seed", "of initialisation, order and augmentation", type=cli.integer(0))
    parser.add_argument("--threads", type=cli.integer(1, 1024), help="CPU threads (default: torch's choice)")
    parser.add_argument(
        "-o", "--output", type=Path, help="checkpoint to write (default: ckpt.pt, or with --resume the same file)"
    )
    parser.add_argument("--resume", type=Path, metavar="CKPT", help="continue an unfinished run with its own recipe")
    parser.add_argument("--force", action="store_true", help="overwrite an existing output")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write metrics and costs; - is stdout")
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
    for name, value in asked.items():
        if value != getattr(config, name):
            flag = "--" + name.replace("_", "-")
            stored = {None: "mixed"}.get(getattr(config, name), getattr(config, name))
            found = {None: "mixed"}.get(value, value)
            raise CheckpointError(f"{resume.path}: was started with {flag} {stored}, not {found}; leave {flag} out")
    return config


def main(argv: list[str] | None = None) -> int:
    """`python -m codeq.train`; see `--help`."""
    arguments = vars(_build_parser().parse_args(argv))
    asked = {field.name: arguments[field.name] for field in fields(TrainConfig) if field.name in arguments}
    resume = None
    if arguments["resume"] is None:
        config = TrainConfig(**asked)
    else:
        resume = checkpoint.load(arguments["resume"])
        config = _resumed_config(resume, asked)
    output = arguments["output"] or arguments["resume"] or Path("ckpt.pt")
    same = resume is not None and output.resolve() == resume.path.resolve()
    check_writable(output, force=arguments["force"] or same)
    inputs = [] if resume is None else [resume.path]
    cli.check_json(arguments["json"], output, *inputs, force=arguments["force"])
    if arguments["threads"]:
        torch.set_num_threads(arguments["threads"])

    last, before = "", _modified(output)

    def remember(row: EpochResult) -> None:
        nonlocal last
        last = f"epoch {row.epoch + 1}/{config.epochs}  {row}"

    try:
        with cli.progress_bar(f"{config.model} on {config.data}", PROGRESS_STEPS) as update:

            def show(step: int, steps: int, loss: float) -> None:
                update(PROGRESS_STEPS * step // steps, last or f"loss {loss:.4f}")

            result = train(config, output, resume=resume, on_epoch=remember, on_step=show)
    except KeyboardInterrupt:
        if _modified(output) != before:  # else it was interrupted before anything was written
            print(f"stopped; {output} holds the last whole epoch, continue with --resume {output}", file=sys.stderr)
        return cli.EXIT_INTERRUPTED

    if str(arguments["json"]) != "-":
        print(result.cost)
        achieved = f"test accuracy {result.test_accuracy:.2%}, zeros {result.cost.sparsity:.1%}"
        print(f"{achieved}, bits {result.cost.mean_bits:.2f}\n{output} written")
    report = {"config": asdict(config), "test_accuracy": result.test_accuracy, "cost": result.cost.to_dict()}
    cli.write_json(arguments["json"], report | {"history": [asdict(row) for row in result.history]})
    return 0


def _modified(path: Path) -> int | None:
    return path.stat().st_mtime_ns if path.exists() else None


if __name__ == "__main__":
    cli.run(main)
