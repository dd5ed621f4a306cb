"""Everything that determines a training run, and the recipes by name."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from codeq.errors import DataError
from codeq.quantizer.dead_zone import THETA_GRADIENTS
from codeq.training.budget import Budget, Kind

FLOAT_BITS = 32
DEFAULT_SPARSITY = 0.9
TARGETS = ("lambda_dz", "sparsity", "bops", "size")
ACTIVATIONS = ("float32", "int8")
AUTOCAST = ("off", "bfloat16")
OPTIMIZERS: Mapping[str, Mapping[str, float]] = {
    "sgd": {"lr": 0.1, "weight_decay": 5e-4},
    "adamw": {"lr": 6e-3, "weight_decay": 1e-2},
}
"""Optimizers of the weights, and what their settings default to."""
MAX_LR = 1e3
"""Far above anything that trains, far below what leaves float32."""


@dataclass(frozen=True)
class TrainConfig:
    """A run. Two runs of one config on one machine, with one number of threads and processes, give the same bits.

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
        sparsity, bops, size: The budget, at most one of them (budget.py): zeros and relative BOPs in (0, 1), bytes.
        lambda_dz: Instead of a budget: more means more zeros. With neither, the budget is 90 % zeros.
        lambda_bit: More means fewer bits, when they are learned; a budget of BOPs or bytes steers them itself.
        bit_ratio: With a budget, lambda_bit over lambda_dz.
        theta_init: Start of theta_dz; None takes the quantizer's.
        grid, grid_limit, theta_gradient: As for `DeadZoneQuantizer`.
        shift, flip: Augmentation, as for `load_dataset`.
        freeze_fraction: Last part of the steps, with grids frozen.
        activations: "float32", or "int8" to learn uint8 activation scales in that last part.
        autocast: "bfloat16" computes layers in it; weights and grids stay float32.
        teacher: Checkpoint of a float twin to distil from (Hinton et al. 2015, arXiv:1503.02531), with the share
            `teacher_weight` of the loss, at `temperature`.
        init: File of float weights to start from.
    """

    model: str = "resnet8"
    model_args: Mapping[str, Any] | None = None
    data: str = "digits"
    input_size: int = 224
    bits: int | None = 4
    epochs: int = 60
    batch_size: int = 32
    optimizer: str = "sgd"
    lr: float = 0.1
    momentum: float = 0.9
    weight_decay: float = 5e-4
    warmup_fraction: float = 0.1
    label_smoothing: float = 0.0
    clip_norm: float | None = None
    lambda_dz: float | None = None
    lambda_bit: float = 0.01
    sparsity: float | None = None
    bops: float | None = None
    size: float | None = None
    bit_ratio: float = 0.5
    theta_init: float | None = None
    grid: str = "integer"
    grid_limit: int = 127
    theta_gradient: str = "sum"
    shift: int | None = None
    flip: bool | None = None
    freeze_fraction: float = 0.2
    activations: str = "float32"
    autocast: str = "off"
    teacher: str | None = None
    teacher_weight: float = 0.5
    temperature: float = 2.0
    init: str | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        for name, (low, high) in RANGES.items():
            value = getattr(self, name)
            if value is None and name in OPTIONAL:
                continue
            if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
                raise ValueError(f"{name} must be a number from {low:g} to {high:g}, found {value!r}")
        if self.bits is not None and self.bits != FLOAT_BITS and self.bits not in range(2, 9):
            raise ValueError(f"bits must be 2 to 8, None (learned) or {FLOAT_BITS} (float), found {self.bits!r}")
        for name, choices in CHOICES.items():
            if getattr(self, name) not in choices:
                raise ValueError(f"{name} must be one of {', '.join(choices)}, found {getattr(self, name)!r}")
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
        asked = [flag for flag in TARGETS if getattr(self, flag) is not None]
        if len(asked) > 1:
            flags = " and ".join("--" + flag.replace("_", "-") for flag in asked)
            raise DataError(f"{flags} contradict each other; a run has one target, or lambda")
        if asked and self.is_float:
            raise DataError(f"--{asked[0].replace('_', '-')} needs quantized weights; leave it or --bits 32 out")

    @property
    def is_float(self) -> bool:
        """Whether this is the float twin."""
        return self.bits == FLOAT_BITS

    @property
    def is_foreign(self) -> bool:
        """Whether the network is not one of the registry's."""
        return ":" in self.model

    @property
    def budget(self) -> Budget | None:
        """What the network may cost; None where lambda says how strong the pull is, and for a float twin."""
        if self.lambda_dz is not None or self.is_float:
            return None
        targets: dict[Kind, float | None] = {"sparsity": self.sparsity, "bops": self.bops, "size": self.size}
        asked = [Budget(kind, target) for kind, target in targets.items() if target is not None]
        return asked[0] if asked else Budget("sparsity", DEFAULT_SPARSITY)

    @property
    def acting_lambda_bit(self) -> float:
        """lambda_bit where bits follow it: they are learned, and no budget steers them."""
        return 0.0 if self.bits is not None or self.steers_bits else self.lambda_bit

    @property
    def steers_bits(self) -> bool:
        """Whether a budget moves learned bits; one of zeros leaves them alone."""
        return self.budget is not None and self.budget.kind != "sparsity"

    def freeze_step(self, steps: int) -> int:
        """The first of `steps` optimizer steps, counted from 0, that trains on frozen grids; `steps` if none does."""
        return steps - math.floor(steps * self.freeze_fraction)


RANGES: Mapping[str, tuple[float, float]] = {
    "input_size": (1, 4096),
    "epochs": (1, 10**6),
    "batch_size": (2, 10**6),
    "lr": (0, MAX_LR),
    "momentum": (0, 0.9999),
    "weight_decay": (0, MAX_LR),
    "warmup_fraction": (0, 1),
    "label_smoothing": (0, 0.99),
    "clip_norm": (0, 1e9),
    "lambda_dz": (0, MAX_LR),
    "lambda_bit": (0, MAX_LR),
    "sparsity": (1e-9, 1 - 1e-9),
    "bops": (1e-9, 1 - 1e-9),
    "size": (1, 1e15),
    "bit_ratio": (0, 100),
    "theta_init": (0.25, 4),
    "grid_limit": (7, 127),
    "shift": (0, 64),
    "freeze_fraction": (0, 1),
    "teacher_weight": (0, 1),
    "temperature": (1e-2, 1e3),
    "seed": (0, 2**63 - 1),
}
OPTIONAL = ("lambda_dz", "sparsity", "bops", "size", "theta_init", "clip_norm", "shift")
CHOICES: Mapping[str, tuple[str, ...]] = {
    "optimizer": tuple(OPTIMIZERS),
    "grid": ("integer", "paper"),
    "theta_gradient": THETA_GRADIENTS,
    "activations": ACTIVATIONS,
    "autocast": AUTOCAST,
}

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


QUANTIZER = ("grid", "grid_limit", "theta_init", "theta_gradient", "freeze_fraction")
UNUSED: tuple[tuple[tuple[str, ...], Callable[[TrainConfig], bool], str], ...] = (
    (("input_size",), lambda run: not run.data.startswith("images:"), "without --data images:DIR"),
    ((*QUANTIZER, "lambda_bit", "bit_ratio"), lambda run: run.is_float, "with --bits 32"),
    (("grid_limit",), lambda run: run.grid == "paper", "with --grid paper"),
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
    """A recipe with some of its settings replaced; a target that is asked for replaces the recipe's own.

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
            flags = " and ".join("--" + name.replace("_", "-") for name in unused)
            raise DataError(f"{flags} would do nothing {circumstance}; leave {flags} out")
    return config
