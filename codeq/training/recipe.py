"""A training run is described by one record, from which its flags are made too; recipes are records by name."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from codeq.errors import DataError
from codeq.quantizer.choices import (
    GRANULARITIES,
    GRIDS,
    MAX_BITS,
    MAX_GRID_LIMIT,
    MAX_THETA,
    MIN_BITS,
    MIN_GRID_LIMIT,
    MIN_THETA,
    THETA_GRADIENTS,
)
from codeq.toolkit.cli import MODEL_ARGS_HELP, json_object
from codeq.toolkit.options import LARGEST, check_options, flag_of, option
from codeq.training.budget import Budget, Kind
from codeq.training.flag_values import FLOAT_BITS, MAX_SIZE, parse_bits, parse_model, parse_share, parse_size
from models.names import NAMES

DEFAULT_SPARSITY = 0.9
TARGETS = ("lambda_dz", "sparsity", "pointwise_sparsity", "bops", "size")
ACTIVATIONS = ("float32", "int8")
AUTOCAST = ("off", "bfloat16")
COMPILE = ("auto", "off", "model")
OPTIMIZERS: Mapping[str, Mapping[str, float]] = {
    "sgd": {"lr": 0.1, "weight_decay": 5e-4},
    "adamw": {"lr": 6e-3, "weight_decay": 1e-2},
}
"""Optimizers of the weights, and what their settings default to."""
HELD_FILES = ("teacher", "kernel_times")
"""Fields that name files whose contents a run remembers: a resumed one may find them in another place."""
MAX_LR = 1e3
"""Far above anything that trains, far below what leaves float32."""
NETWORK = "network and data"
COST = "what the network may cost: one of these, or lambda"
QUANTIZER = "quantizer (not with --bits 32)"
TRAINING = "training"
GROUPS = (NETWORK, COST, QUANTIZER, TRAINING)
"""Headings of the flags in help, in order."""


def _share(text: str, shown: str = "none") -> Any:
    """Make an option that is a share of a cost, in (0, 1), or nothing."""
    return option(None, text, shown=shown, low=0.0, high=1.0, above=True, below=True, parse=parse_share, group=COST)


@dataclass(frozen=True)
class TrainConfig:
    """This record determines a run: two runs of one config on one machine, with one number of threads and processes,
    give the same bits.

    Attributes:
        model: Registry name, or `package.module:factory` for a network that the registry has not, made by that function
            with `model_args`. It is a name here: who trains it builds it.
        data: As for `load_dataset`. `input_size`: side of an input in pixels, for image folders only.
        bits: 2 to 8, None to learn bit widths, 32 for the float twin (no quantizers).
        epochs, batch_size (over all processes), seed: As everywhere.
        optimizer: "sgd" with `momentum`, or "adamw". `lr`, `weight_decay`: of the weights.
        warmup_fraction: First part of the steps, in which the learning rate rises linearly (Goyal et al. 2017,
            arXiv:1706.02677); a cosine follows (Loshchilov & Hutter 2017, arXiv:1608.03983).
        label_smoothing: Szegedy et al. 2016, arXiv:1512.00567. clip_norm: largest norm of the weights'
            gradients and of the thetas', 0 for no limit; None is 1 for depthwise convolutions under
            SGD, 0 else.
        sparsity, pointwise_sparsity, bops, size: The budget, at most one of them (budget.py): zeros, zeros in 1x1
            convolutions and relative BOPs in (0, 1), bytes.
        lambda_dz: Instead of a budget: more means more zeros. With neither, the budget is 90 % zeros.
        lambda_bit: More means fewer bits, when they are learned; a budget of BOPs or bytes steers them itself.
        bit_ratio: With a budget, lambda_bit over lambda_dz.
        macs: Multiply-adds that are left once channels have died, of the dense network's, in (0, 1); None lets all
            live. Beside a budget or lambda_dz; alone, no zeros are asked for.
        latency: Likewise what the int8 file takes, of the dense one's, by the table in the file `kernel_times`.
        theta_init: Start of theta_dz; None takes the quantizer's.
        grid, grid_limit, theta_gradient, granularity: As for `DeadZoneQuantizer`.
        shift, flip: Augmentation, as for `load_dataset`.
        freeze_fraction: Last part of the steps, with grids frozen.
        activations: "float32", or "int8" to learn uint8 activation scales in that last part.
        autocast: "bfloat16" computes layers in it; weights and grids stay float32.
        compile: What goes through `torch.compile`: "model", the whole network in training and the teacher
            (compiled_network.py); "off", nothing; "auto", the network where the run is long enough to win its time
            back, and the quantizers of large weights else.
        teacher: Checkpoint of a float twin to distil from (Hinton et al. 2015, arXiv:1503.02531), with the share
            `teacher_weight` of the loss, at `temperature`.
        init: File of float weights to start from.
    """

    model: str = option(
        "resnet8",
        f"network: {', '.join(NAMES)}, or package.module:factory",
        metavar="NAME",
        parse=parse_model,
        group=NETWORK,
    )
    model_args: Mapping[str, Any] | None = option(
        None, MODEL_ARGS_HELP, shown="none", metavar="JSON", parse=json_object, group=NETWORK
    )
    data: str = option(
        "digits",
        "digits; idx:DIR (MNIST and its kin); cifar10:DIR (binary version); images:DIR (train/, val/)",
        group=NETWORK,
    )
    input_size: int = option(224, "with images:DIR: side of the inputs in pixels", low=1, high=4096, group=NETWORK)
    bits: int | None = option(
        4,
        f"weight bits: {MIN_BITS} to {MAX_BITS}, mixed, or {FLOAT_BITS} for the float twin",
        parse=parse_bits,
        group=COST,
    )
    epochs: int = option(60, "passes over the training set", low=1, high=10**6, group=TRAINING)
    batch_size: int = option(32, "inputs per step, over all processes", low=2, high=10**6, group=TRAINING)
    optimizer: str = option("sgd", "of the weights", choices=tuple(OPTIMIZERS), group=TRAINING)
    lr: float = option(
        0.1,
        "learning rate of the weights",
        shown="0.1, adamw 0.006",
        low=0.0,
        high=MAX_LR,
        above=True,
        group=TRAINING,
    )
    momentum: float = option(0.9, "with --optimizer sgd", low=0.0, high=0.9999, group=TRAINING)
    weight_decay: float = option(
        5e-4, "decay of the weights", shown="0.0005, adamw 0.01", low=0.0, high=MAX_LR, group=TRAINING
    )
    warmup_fraction: float = option(
        0.1, "first part of the run, in which the learning rate rises", low=0.0, high=1.0, group=TRAINING
    )
    label_smoothing: float = option(
        0.0, "share of the labels spread over all classes", low=0.0, high=0.99, group=TRAINING
    )
    clip_norm: float | None = option(
        None,
        "largest norm of the weights' and of the thetas' gradients; 0 is none",
        shown="1 for depthwise convolutions under sgd, else 0",
        low=0.0,
        high=1e9,
        group=TRAINING,
    )
    lambda_dz: float | None = option(
        None,
        "pull on the dead zones: more means more zeros",
        shown="by recipe",
        low=0.0,
        high=MAX_LR,
        group=COST,
    )
    lambda_bit: float = option(
        0.01,
        "with --bits mixed, but not --bops or --size: pull on bits, more means fewer",
        low=0.0,
        high=MAX_LR,
        group=COST,
    )
    sparsity: float | None = _share("share of zeros, such as 0.9")
    pointwise_sparsity: float | None = _share("zeros in 1x1 convolutions alone, which LiteRT skips in float files")
    bops: float | None = _share("bit operations of the dense float32 network's, such as 0.04")
    size: float | None = option(
        None,
        "bytes by the entropy bound, such as 200kB",
        shown="none",
        low=1.0,
        high=MAX_SIZE,
        parse=parse_size,
        group=COST,
    )
    bit_ratio: float = option(
        0.5,
        "with --bits mixed and --bops or --size: the pull on bits over that on dead zones",
        low=0.0,
        high=100.0,
        group=COST,
    )
    macs: float | None = _share(
        "beside any of these: let channels die until such a share of the multiply-adds is left", shown="all live"
    )
    latency: float | None = _share(
        "likewise, of what the int8 file takes in the runtime that --kernel-times was measured with", shown="all live"
    )
    kernel_times: str | None = option(
        None,
        "with --latency: a table that runtime_tests.kernel_times measured where the network will run",
        shown="none",
        metavar="FILE",
        group=COST,
    )
    theta_init: float | None = option(
        None, "where theta_dz starts", shown="3, and 0.55 at 2 bits", low=MIN_THETA, high=MAX_THETA, group=QUANTIZER
    )
    grid: str = option(
        "integer",
        "integer is deployable as trained; paper is the operator as published",
        choices=GRIDS,
        group=QUANTIZER,
    )
    grid_limit: int = option(
        127,
        "largest code of the integer grid; 63 is safe on x86 without VNNI",
        low=MIN_GRID_LIMIT,
        high=MAX_GRID_LIMIT,
        group=QUANTIZER,
    )
    theta_gradient: str = option(
        "sum", "lsq normalises it by layer: fewer bytes", choices=THETA_GRADIENTS, group=QUANTIZER
    )
    granularity: str = option(
        "tensor", "channel: a range and a scale for every output channel", choices=GRANULARITIES, group=QUANTIZER
    )
    shift: int | None = option(
        None, "augmentation: random shift in pixels", shown="by data set", low=0, high=64, group=NETWORK
    )
    flip: bool | None = option(None, "augmentation: mirror at random", shown="by data set", switch=True, group=NETWORK)
    freeze_fraction: float = option(0.2, "last part of the run, with grids frozen", low=0.0, high=1.0, group=QUANTIZER)
    activations: str = option(
        "float32",
        "int8 learns uint8 activation scales on the frozen integer grid",
        choices=ACTIVATIONS,
        group=QUANTIZER,
    )
    autocast: str = option("off", "compute layers in bfloat16; weights stay float32", choices=AUTOCAST, group=TRAINING)
    compile: str = option(
        "auto",
        "torch.compile: model is the whole network; auto, where a run is long enough to gain by it",
        choices=COMPILE,
        group=TRAINING,
    )
    teacher: str | None = option(
        None,
        "checkpoint to distil from, such as the float twin's",
        shown="none",
        metavar="CKPT",
        group=TRAINING,
    )
    teacher_weight: float = option(0.5, "with --teacher: its share of the loss", low=0.0, high=1.0, group=TRAINING)
    temperature: float = option(2.0, "with --teacher: of its outputs", low=1e-2, high=1e3, group=TRAINING)
    init: str | None = option(
        None, "start from the float weights in this file", shown="none", metavar="FILE", group=NETWORK
    )
    seed: int = option(0, "of initialisation, order and augmentation", low=0, high=LARGEST, group=TRAINING)

    def __post_init__(self) -> None:
        check_options(self, ValueError)
        if self.bits is not None and self.bits not in (*range(MIN_BITS, MAX_BITS + 1), FLOAT_BITS):
            raise ValueError(
                f"bits {self.bits!r}, expected {MIN_BITS} to {MAX_BITS}, None (learned) or {FLOAT_BITS} (float)"
            )
        if self.model_args is not None and not self.is_foreign:
            raise DataError(
                f"--model-args goes with --model package.module:factory, not with {self.model}; "
                f"--model models:{self.model} takes all arguments of that factory"
            )
        if self.activations == "int8" and self.is_float:
            raise DataError("--activations int8 needs quantized weights; leave it or --bits 32 out")
        if self.activations == "int8" and (self.grid != "integer" or not self.freeze_fraction):
            raise DataError(
                "--activations int8 needs the integer grid, frozen while activation scales are learned; "
                "use --grid integer --freeze-fraction 0.2"
            )
        if self.activations == "int8" and self.autocast != "off":
            raise DataError(f"--activations int8 and --autocast {self.autocast} exclude each other; leave one out")
        if self.activations == "int8" and self.compile == "model":
            raise DataError("--activations int8 and --compile model exclude each other; leave one out")
        asked = [flag for flag in TARGETS if getattr(self, flag) is not None]
        if len(asked) > 1:
            raise DataError(f"{_flags(asked)} contradict each other; a run has one target, or lambda")
        dying = [flag for flag in ("macs", "latency") if getattr(self, flag) is not None]
        if len(dying) > 1:
            raise DataError(f"{_flags(dying)} contradict each other; channels die for one of them")
        needing = [*asked, *dying]
        if needing and self.is_float:
            raise DataError(f"{_flags(needing)} needs quantized weights; leave it or --bits 32 out")
        if dying and self.freeze_fraction == 1:
            raise DataError(f"--{dying[0]} needs steps before grids freeze; use --freeze-fraction 0.2")
        if (self.latency is None) != (self.kernel_times is None):
            raise DataError(
                "--latency and --kernel-times go together; python -m runtime_tests.kernel_times measures a table"
            )

    @property
    def is_float(self) -> bool:
        """Say whether this is the float twin."""
        return self.bits == FLOAT_BITS

    @property
    def channels(self) -> float | None:
        """Say what is left of the dense network's multiply-adds or latency; None where all channels live."""
        return self.latency if self.macs is None else self.macs

    @property
    def is_foreign(self) -> bool:
        """Say whether the network is not one of the registry's."""
        return ":" in self.model

    @property
    def budget(self) -> Budget | None:
        """Say what the network may cost; None where lambda says how strong the pull is, and for a float twin."""
        if self.lambda_dz is not None or self.is_float:
            return None
        targets: dict[Kind, float | None] = {
            "sparsity": self.sparsity,
            "pointwise_sparsity": self.pointwise_sparsity,
            "bops": self.bops,
            "size": self.size,
        }
        asked = [Budget(kind, target) for kind, target in targets.items() if target is not None]
        if not asked and self.channels is not None:
            return None
        return asked[0] if asked else Budget("sparsity", DEFAULT_SPARSITY)

    @property
    def acting_lambda_bit(self) -> float:
        """lambda_bit where bits follow it: they are learned, and no budget steers them."""
        return 0.0 if self.bits is not None or self.steers_bits else self.lambda_bit

    @property
    def steers_bits(self) -> bool:
        """Say whether a budget moves learned bits; one of zeros leaves them alone."""
        return self.budget is not None and not self.budget.counts_zeros

    def freeze_step(self, steps: int) -> int:
        """Return the first of `steps` optimizer steps, counted from 0, that trains on frozen grids; `steps` if none
        does."""
        return steps - math.floor(steps * self.freeze_fraction)


RECIPES: Mapping[str, Mapping[str, Any]] = {
    "ours": {},
    "paper": {
        "warmup_fraction": 0.0,
        "lambda_dz": 0.01,
        "lambda_bit": 0.01,
        "theta_init": 3.0,
        "clip_norm": 0.0,
        "grid": "paper",
        "freeze_fraction": 0.0,
    },
}
"""What other options default to. "paper" is CoDeQ's ResNet-20 recipe (arXiv:2512.12981) as far as it is published: the
operator, lambdas and start of theta. Weights are trained as in "ours"; SGD with momentum on theta reproduces the
paper's curves."""


QUANTIZER_SETTINGS = ("grid", "grid_limit", "granularity", "theta_init", "theta_gradient", "freeze_fraction")
UNUSED: tuple[tuple[tuple[str, ...], Callable[[TrainConfig], bool], str], ...] = (
    (("input_size",), lambda run: not run.data.startswith("images:"), "without --data images:DIR"),
    ((*QUANTIZER_SETTINGS, "lambda_bit", "bit_ratio"), lambda run: run.is_float, "with --bits 32"),
    (("grid_limit", "granularity"), lambda run: run.grid == "paper", "with --grid paper"),
    (("lambda_bit", "bit_ratio"), lambda run: run.bits is not None, "without --bits mixed"),
    (("lambda_bit",), lambda run: run.steers_bits, "with --bops or --size, which steer bits"),
    (("bit_ratio",), lambda run: not run.steers_bits, "without --bops or --size"),
    (
        ("lambda_dz", "lambda_bit", "bit_ratio", "theta_gradient"),
        lambda run: run.freeze_fraction == 1,
        "with --freeze-fraction 1",
    ),
    (("momentum",), lambda run: run.optimizer != "sgd", "without --optimizer sgd"),
    (("teacher_weight", "temperature"), lambda run: run.teacher is None, "without --teacher"),
    (("teacher", "temperature"), lambda run: run.teacher_weight == 0, "with --teacher-weight 0"),
    (("label_smoothing",), lambda run: run.teacher is not None and run.teacher_weight == 1, "with --teacher-weight 1"),
)
"""Options, runs that do not read them, and how an error says so: asked for all the same, they are refused."""


def resolve(recipe: str, asked: Mapping[str, Any]) -> TrainConfig:
    """Replace some settings of a recipe; a target that is asked for replaces the recipe's own.

    Raises:
        ValueError, DataError: As for `TrainConfig`; or an option is asked for that would do nothing.
    """
    settings = dict(RECIPES[recipe])
    if asked.get("bits", settings.get("bits")) == FLOAT_BITS or any(name in asked for name in TARGETS):
        settings = {name: value for name, value in settings.items() if name not in TARGETS}
    weights = OPTIMIZERS[asked.get("optimizer", settings.get("optimizer", "sgd"))]
    config = TrainConfig(**({**weights} | settings | dict(asked)))
    for names, is_unused, circumstance in UNUSED:
        unused = [name for name in names if name in asked]
        if unused and is_unused(config):
            raise DataError(f"{_flags(unused)} would do nothing {circumstance}; leave {_flags(unused)} out")
    return config


def _flags(names: Sequence[str]) -> str:
    return " and ".join(flag_of(TrainConfig, name) for name in names)
