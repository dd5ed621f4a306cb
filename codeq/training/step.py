"""Train one step: forward, loss, backward, clipping, optimizer, schedule, and the budgets' controllers."""

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from codeq.training.batching import Batch
from codeq.training.distillation import distillation_loss
from codeq.training.distributed import Ranks, loss_weight, total
from codeq.training.recipe import TrainConfig
from codeq.training.state import TrainingState

CLIPPED_TOGETHER = (("weights", "no_decay"), ("theta_dz", "theta_bit"))
"""Kinds of parameter groups whose gradients have one norm and one limit."""


class TrainingStep:
    """Takes the steps of a run.

    Args:
        network: What to call in training: as `wrap` returns it, or a `CompiledNetwork`.
        state: Optimizer, schedule and controller; its count of steps is kept here.
        config: The run.
        teacher: A network in eval mode to distil from, on `device`, or a compiled one.
        clip_norm: Largest norm of the gradients of each of CLIPPED_TOGETHER; 0 is none.
        ranks: From `start_ranks`.
        device: Where to compute.
    """

    def __init__(
        self,
        network: Callable[[Tensor], Any],
        state: TrainingState,
        config: TrainConfig,
        *,
        teacher: Callable[[Tensor], Any] | None,
        clip_norm: float,
        ranks: Ranks,
        device: torch.device,
    ) -> None:
        self.network = network
        self.state = state
        self.config = config
        self.teacher = teacher
        self.clip_norm = clip_norm
        self.ranks = ranks
        self.device = device

    def __call__(self, batch: Batch) -> float:
        """Train on this process's share of a batch, and return the mean loss of the whole batch.

        A loss that is NaN or infinite is returned without a step.
        """
        inputs, labels = batch.inputs.to(self.device), batch.labels.to(self.device)
        loss = self._loss(inputs, labels)
        value = float(total(loss.detach() * len(labels))) / batch.size
        if not math.isfinite(value):
            return value
        optimizer = self.state.optimizer
        optimizer.zero_grad()
        (loss * loss_weight(len(labels), batch.size, self.ranks)).backward()
        if self.clip_norm:
            for kinds in CLIPPED_TOGETHER:
                groups = [group["params"] for group in optimizer.param_groups if group["kind"] in kinds]
                nn.utils.clip_grad_norm_([parameter for group in groups for parameter in group], self.clip_norm)
        optimizer.step()
        self.state.scheduler.step()
        self.state.step += 1
        if self.state.channels is not None:
            self.state.channels.step()
        if self.state.controller is not None:
            self.state.controller.step()
        return value

    def _loss(self, inputs: Tensor, labels: Tensor) -> Tensor:
        config = self.config
        with torch.autocast(self.device.type, torch.bfloat16, enabled=config.autocast == "bfloat16"):
            outputs = self.network(inputs).float()
            if self.teacher is not None:
                with torch.no_grad():
                    taught = self.teacher(inputs).float()
        if self.teacher is None:
            return F.cross_entropy(outputs, labels, label_smoothing=config.label_smoothing)
        return distillation_loss(
            outputs,
            labels,
            taught,
            share=config.teacher_weight,
            temperature=config.temperature,
            label_smoothing=config.label_smoothing,
        )
