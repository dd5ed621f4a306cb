"""Build the optimizer of a run and the schedule of its learning rates.

Weights follow a cosine behind a linear warm-up. Thetas follow the paper's dynamics (param_groups.py), with the learning
rate scaled so that they travel as far as in the paper's longest recipe however short the run is.
"""

import math
from dataclasses import dataclass

import torch
from torch import nn
from torch.optim.lr_scheduler import LambdaLR

from codeq.training.param_groups import param_groups
from codeq.training.recipe import TrainConfig

PAPER_THETA_TRAVEL = 1e-3 * 300 * 98
"""Learning rate of theta times optimizer steps in the paper's ResNet-20 recipe (1e-3, 300 epochs of 50,000 / 512).
Shorter runs raise the rate to keep the product, so that a lambda means the same sparsity in any of them."""
MAX_THETA_LR = 0.2
MAX_THETA_DECAY = 0.1
"""Largest share of theta that lambda takes in a step: above 1 it would throw theta across zero."""
DEPTHWISE_CLIP_NORM = 1.0
"""Gradients of a DS-CNN's thetas (digits, 90 % zeros) have a norm of 0.4 in the median step, of 66 in one step of a
hundred and of 5,600 in one: without a limit it throws the theta of a layer to its end, and a network that had 96 %
accuracy is lost. Its weights' have 2 in the median step, and spikes in the same steps. AdamW does not need it: with
two seeds 88 and 91 % without, 84 and 83 % with it."""
ACTIVATION_LR = 1e-3
"""Learning rate of the activation quantizers, whose parameters are relative: log2 of a scale, share of a range."""


@dataclass(frozen=True)
class Schedule:
    """Counts the optimizer steps of a run.

    Attributes:
        batch_count: Steps in an epoch.
        steps: Steps in the whole run.
        freeze_step: The first step, counted from 0, that trains on frozen grids; `steps` if none does.
        theta_lr: Learning rate of the thetas in the paper's terms (SGD, momentum 0.9).
    """

    batch_count: int
    steps: int
    freeze_step: int
    theta_lr: float

    @classmethod
    def of(cls, config: TrainConfig, batch_count: int) -> "Schedule":
        """Make the schedule of a run whose epochs have `batch_count` batches."""
        steps = batch_count * config.epochs
        strongest = 10 * max(config.lambda_dz or 0.0, config.acting_lambda_bit, 1e-9)
        theta_lr = min(PAPER_THETA_TRAVEL / steps, MAX_THETA_LR, MAX_THETA_DECAY / strongest)
        return cls(batch_count, steps, config.freeze_step(steps), theta_lr)


def build_optimizer(
    model: nn.Module, config: TrainConfig, schedule: Schedule, activation_quantizers: nn.Module | None = None
) -> tuple[torch.optim.Optimizer, LambdaLR]:
    """Build the optimizer of a network and what sets its learning rates, one step of it per optimizer step.

    Args:
        model: The network, attached or a float twin.
        config: The run.
        schedule: Its steps.
        activation_quantizers: Their parameters train too, in a group of their own.
    """
    kind: type[torch.optim.Optimizer] = torch.optim.AdamW if config.optimizer == "adamw" else torch.optim.SGD
    groups = param_groups(
        model,
        kind,
        lr=config.lr,
        weight_decay=config.weight_decay,
        momentum=config.momentum,
        theta_lr=schedule.theta_lr,
        lambda_dz=config.lambda_dz or 0.0,
        lambda_bit=config.acting_lambda_bit,
    )
    if activation_quantizers is not None:
        parameters = list(activation_quantizers.parameters())
        groups.append({"kind": "activations", "params": parameters, "lr": ACTIVATION_LR, "weight_decay": 0.0})
    optimizer = kind(groups)  # type: ignore[call-arg]
    warmup = config.warmup_fraction * schedule.steps

    def cosine(step: int) -> float:
        return 0.5 * (1 + math.cos(math.pi * step / schedule.steps))

    def warm(step: int) -> float:
        return min(1.0, (step + 1) / max(warmup, 1)) * cosine(step)

    steered = config.budget is not None
    shapes = {"theta_dz": (lambda step: 1.0) if steered else cosine, "theta_bit": cosine, "activations": cosine}
    return optimizer, LambdaLR(optimizer, [shapes.get(group["kind"], warm) for group in groups])


def choose_clip_norm(config: TrainConfig, model: nn.Module) -> float:
    """Choose the largest norm of the weights' gradients and of the thetas'; 0 is none.

    The recipe's, or else DEPTHWISE_CLIP_NORM for a quantized network with depthwise convolutions under SGD.
    """
    if config.clip_norm is not None:
        return config.clip_norm
    clipped = config.optimizer == "sgd" and not config.is_float and _has_depthwise(model)
    return DEPTHWISE_CLIP_NORM if clipped else 0.0


def _has_depthwise(model: nn.Module) -> bool:
    convolutions = (module for module in model.modules() if isinstance(module, nn.modules.conv._ConvNd))
    return any(convolution.groups == convolution.in_channels > 1 for convolution in convolutions)
