"""This module holds what changes during a run beside the network: stored after every epoch, taken back on resuming."""

from dataclasses import dataclass, field
from typing import Any

import torch
from torch.optim.lr_scheduler import LRScheduler

from codeq.activations.learned_step import QuantizedActivations
from codeq.checkpoint import Checkpoint
from codeq.errors import CheckpointError, first_line
from codeq.training.budget_controller import BudgetController
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
        try:
            self.optimizer.load_state_dict(state["optimizer"])
            self.scheduler.load_state_dict(state["scheduler"])
            self.generator.set_state(state["generator"])
            self.history = [EpochResult.from_dict(row) for row in state["history"]]
            self.step = len(self.history) * schedule.batch_count
            self.guard.smoothed = float(state["smoothed_loss"])
            if self.quantized is not None:
                self.quantized.quantizers.load_state_dict(state["activation_quantizers"])
                self.quantized.calibrated.fill_(self.step > schedule.freeze_step)  # type: ignore[operator]
            if self.controller is not None:
                self.controller.load_state_dict(state["controller"])
        except (LookupError, TypeError, ValueError, RuntimeError, AttributeError) as error:
            raise CheckpointError(f"{resume.path}: its training state is damaged ({first_line(error)})") from error
