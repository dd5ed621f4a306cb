"""This module holds what changes during a run beside the network: stored after every epoch, taken back on resuming."""

from dataclasses import dataclass, field
from typing import Any

import torch
from torch.optim.lr_scheduler import LRScheduler

from codeq.activations.learned_step import QuantizedActivations
from codeq.checkpoint import Checkpoint
from codeq.errors import CheckpointError, first_line
from codeq.training.budget_controller import BudgetController
from codeq.training.channel_controller import ChannelController
from codeq.training.divergence import LossGuard
from codeq.training.metrics import EpochResult
from codeq.training.optimizer import Schedule
from codeq.training.recipe import TrainConfig


@dataclass(eq=False)
class TrainingState:
    """Holds all that the rest of a run follows from, together with the network's own state.

    Attributes:
        optimizer, scheduler: From `build_optimizer`.
        generator: Draws the order and the augmentation of every epoch.
        guard: Watches the loss.
        controller: Steers the run to its budget; None where lambda is fixed.
        channels: Lets channels die until a budget of multiply-adds is met; None where all live.
        quantized: The network with its activations quantized; None where they are float32.
        teacher_sha256: Digest of the teacher's file; None without a teacher.
        history: The epochs that are done.
        step: Optimizer steps that are done.
    """

    optimizer: torch.optim.Optimizer
    scheduler: LRScheduler
    generator: torch.Generator
    guard: LossGuard
    controller: BudgetController | None = None
    channels: ChannelController | None = None
    quantized: QuantizedActivations | None = None
    teacher_sha256: str | None = None
    history: list[EpochResult] = field(default_factory=list)
    step: int = 0

    def state_dict(self) -> dict[str, Any]:
        """Return what a checkpoint of an unfinished run holds of it, beside the history: plain values and tensors."""
        return {
            "optimizer": self.optimizer.state_dict(),
            "scheduler": self.scheduler.state_dict(),
            "generator": self.generator.get_state(),
            "teacher_sha256": self.teacher_sha256,
            "smoothed_loss": self.guard.smoothed,
            "activation_quantizers": None if self.quantized is None else self.quantized.quantizers.state_dict(),
            "controller": None if self.controller is None else self.controller.state_dict(),
            "channels": None if self.channels is None else self.channels.state_dict(),
        }

    def restore(self, resume: Checkpoint, config: TrainConfig, schedule: Schedule) -> None:
        """Take back what an unfinished run stored.

        Args:
            resume: Its checkpoint; the network in it is that of this run.
            config, schedule: The run, as it was started.

        Raises:
            CheckpointError: The state is damaged, or the teacher is not the one that the run was started with.
        """
        state = resume.training or {}
        if state.get("teacher_sha256", self.teacher_sha256) != self.teacher_sha256:
            raise CheckpointError(
                f"--teacher {config.teacher}: is not the file that {resume.path} was started with; "
                "put that one back, or start a new run"
            )
        groups, places = self.optimizer.state_dict()["param_groups"], self.scheduler.state_dict()
        try:
            _check_optimizer(state["optimizer"])
            self.optimizer.load_state_dict(state["optimizer"])
            self.scheduler.load_state_dict(state["scheduler"])
            _check_like(self.optimizer.state_dict()["param_groups"], groups, "optimizer")
            _check_like(self.scheduler.state_dict(), places, "scheduler")
            _check_moments(self.optimizer)
            self.generator.set_state(state["generator"])
            self.history = [EpochResult.from_dict(row) for row in state["history"]]
            self.step = len(self.history) * schedule.batch_count
            self.guard.smoothed = float(state["smoothed_loss"])
            if self.quantized is not None:
                self.quantized.quantizers.load_state_dict(state["activation_quantizers"])
                self.quantized.calibrated.fill_(self.step > schedule.freeze_step)  # type: ignore[operator]
            if self.controller is not None:
                self.controller.load_state_dict(state["controller"])
            if self.channels is not None:
                self.channels.load_state_dict(state["channels"])
        except (LookupError, TypeError, ValueError, RuntimeError, AttributeError) as error:
            raise CheckpointError(f"{resume.path}: its training state is damaged ({first_line(error)})") from error


def _check_like(found: Any, expected: Any, where: str) -> None:
    """Hold what was stored to what a new run has in its place: a value of another kind fails only once it is used.

    Raises:
        ValueError: An entry is missing, or of another kind.
    """
    if isinstance(expected, dict):
        if not isinstance(found, dict) or not set(expected) <= set(found):
            raise ValueError(f"its {where} lacks entries")
        for key, value in expected.items():
            _check_like(found[key], value, f"{where}.{key}")
    elif isinstance(expected, list | tuple):
        if not isinstance(found, list | tuple) or len(found) != len(expected):
            raise ValueError(f"its {where} is no list of {len(expected)}")
        for one, other in zip(found, expected, strict=True):
            _check_like(one, other, where)
    elif not isinstance(found, (bool, int, float) if isinstance(expected, int | float) else type(expected)):
        raise ValueError(f"its {where} is a {type(found).__name__}")


def _check_optimizer(stored: Any) -> None:
    """See that an optimizer's state is made of dictionaries, which torch takes for granted.

    Raises:
        ValueError: It is not.
    """
    parts = (stored["state"], stored["param_groups"]) if isinstance(stored, dict) else (stored, stored)
    if not isinstance(parts[0], dict) or not isinstance(parts[1], list):
        raise ValueError("its optimizer is no state of one")
    for entry in (*parts[0].values(), *parts[1]):
        if not isinstance(entry, dict):
            raise ValueError(f"its optimizer holds a {type(entry).__name__}")


def _check_moments(optimizer: torch.optim.Optimizer) -> None:
    """See that what an optimizer keeps for a tensor has its shape, or is a number.

    Raises:
        ValueError: It is of another shape.
    """
    for parameter, values in optimizer.state.items():
        for name, value in values.items():
            if isinstance(value, torch.Tensor) and value.shape not in (parameter.shape, ()):
                raise ValueError(f"its optimizer.{name} has shape {tuple(value.shape)}, not {tuple(parameter.shape)}")
