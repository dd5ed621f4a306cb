"""Run the training loop: weights by AdamW or SGD, dead zones by lambda or to a budget, grids frozen for the last part.

The parts have files of their own: the network (network.py), its optimizer and schedule (optimizer.py), a step of it
(step.py), what is stored and resumed (state.py, run_checkpoint.py), what is measured and told (metrics.py, records.py).
With a budget its controller moves the thetas (budget_controller.py). BatchNorm is re-estimated at the end. Every
process of a run takes the same decisions from the same weights; only the first one writes.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from codeq.activations.learned_step import QuantizedActivations
from codeq.channels.kernel_times import KernelTimes, Latency, read_kernel_times
from codeq.channels.shrink import ShrinkReport, shrink
from codeq.checkpoint import Checkpoint
from codeq.cost import CostSummary, summary
from codeq.data import Split, load_dataset
from codeq.errors import DataError, RanksError
from codeq.quantizer.attach import AttachReport, freeze
from codeq.training.agreement import check_agreement, digest_of
from codeq.training.batch_norm import reestimate_batch_norm
from codeq.training.batching import Batch, TrainingBatches
from codeq.training.budget_controller import BudgetController
from codeq.training.channel_controller import ChannelController
from codeq.training.compiled_network import CompiledNetwork
from codeq.training.distillation import load_teacher
from codeq.training.distributed import Ranks, wrap
from codeq.training.divergence import DivergedError, LossGuard, where_diverged
from codeq.training.evaluate import accuracy
from codeq.training.metrics import EpochResult, current_lambdas, final_metrics, is_best, measure_epoch
from codeq.training.network import build_network
from codeq.training.optimizer import Schedule, build_optimizer, choose_clip_norm
from codeq.training.recipe import TrainConfig
from codeq.training.records import epoch_record, result_record, start_record
from codeq.training.run_checkpoint import RunCheckpoints, StoredInputs
from codeq.training.state import TrainingState
from codeq.training.step import TrainingStep
from codeq.training.sync_batch_norm import synchronize_batch_norm

__all__ = ["DivergedError", "EpochResult", "TrainResult", "Trainer", "train"]

BATCH_NORM_BATCHES = 100
COMPILED_MACS = 10**13
"""A run of so many multiply-adds forward is compiled by itself: ten minutes to half an hour on two cores, of which a
fifth to a third is won back, against half a minute that compiling takes."""
ALONE = Ranks(0, 1)

OnStep = Callable[[int, int, float], None]
Record = Callable[[dict[str, Any]], None]


@dataclass(frozen=True, eq=False)
class TrainResult:
    """Holds the trained network in eval mode, its test accuracy after BatchNorm was re-estimated, and its costs; and,
    where channels were to die, what goes with them, and what its file will take."""

    model: nn.Module
    test_accuracy: float
    cost: CostSummary
    history: tuple[EpochResult, ...]
    shrunk: ShrinkReport | None = None
    latency: Latency | None = None


class Trainer:
    """Trains one run; once made it is ready to go: data loaded, network built and attached, nothing written.

    Args:
        config: The run. With `resume`, the config stored there.
        resume: A checkpoint of an unfinished run of `config`: the rest of the run is bit-identical to an
            uninterrupted one (same machine, same numbers of threads and processes).
        ranks: From `start_ranks`.
        device: Where to compute.
        workers: Threads that decode images.
        factory: Builds the network where `config.model` is not a registry name.

    Attributes:
        data: The data set.
        model: The network, whose weights train in place.
        attached: What was quantized; None for a float twin and a resumed run.
        schedule: The run's optimizer steps.
        state: What changes during the run beside the network.
        saved: The file that holds the last good epoch; None before there is one.

    Raises:
        DataError, CheckpointError, BudgetError, RanksError: Bad input.
    """

    def __init__(
        self,
        config: TrainConfig,
        *,
        resume: Checkpoint | None = None,
        ranks: Ranks = ALONE,
        device: str | torch.device = "cpu",
        workers: int = 0,
        factory: Callable[[], nn.Module] | None = None,
    ) -> None:
        self.config = config
        self.ranks = ranks
        self.device = torch.device(device)
        self.data = load_dataset(
            config.data, shift=config.shift, flip=config.flip, input_size=config.input_size, workers=workers
        )
        if len(self.data.train) < 2:
            raise DataError(f"{config.data}: one training image is too few")
        self.inputs = StoredInputs.of(self.data)
        torch.manual_seed(config.seed)
        generator = torch.Generator().manual_seed(config.seed)
        network = build_network(config, self.data, self.inputs.held, factory=factory, resume=resume)
        self.model: nn.Module = network.model.to(self.device)
        self.attached: AttachReport | None = network.attached
        if ranks.world_size > 1:
            synchronize_batch_norm(self.model)
        self.batches = TrainingBatches(self.data.train, config.batch_size, ranks)
        self.schedule = Schedule.of(config, len(self.batches))
        channels = None
        self.times: KernelTimes | None = None
        if config.channels is not None:
            traced = self.inputs.calibration[:2].to(self.device)
            self.times = None if config.kernel_times is None else read_kernel_times(config.kernel_times)
            steps = self.schedule.freeze_step
            channels = ChannelController(self.model, config.channels, traced, steps, times=self.times)
        controller = self._build_controller()
        quantized = None
        if config.activations == "int8":
            quantized = QuantizedActivations(self.model, (self.inputs.calibration[:2].to(self.device),))
        activation_quantizers = None if quantized is None else quantized.quantizers
        optimizer, scheduler = build_optimizer(self.model, config, self.schedule, activation_quantizers)
        self.teacher: nn.Module | None = None
        teacher_sha256 = None
        if config.teacher is not None:
            teacher = load_teacher(Path(config.teacher), self.data.input_shape, self.data.num_classes, factory)
            self.teacher, teacher_sha256 = teacher.model.to(self.device), teacher.sha256
        guard = LossGuard(self.data.num_classes)
        self.state = TrainingState(
            optimizer, scheduler, generator, guard, controller, channels, quantized, teacher_sha256
        )
        self.saved: Path | None = None
        if resume is not None:
            self.state.restore(resume, config, self.schedule)
            self.saved = resume.path
        check_agreement("the network, its recipe and the data", digest_of(self._identity()))
        self.checkpoints = RunCheckpoints(config, network, self.data, self.inputs, self.state)
        compiles = self._compiles()
        compiled = partial(CompiledNetwork, batch_size=config.batch_size)
        self.train_step: Callable[[Batch], float] = TrainingStep(
            compiled(self.model) if compiles else wrap(self._computing(), ranks),
            self.state,
            config,
            teacher=compiled(self.teacher) if compiles and self.teacher is not None else self.teacher,
            clip_norm=choose_clip_norm(config, self.model),
            ranks=ranks,
            device=self.device,
        )

    @property
    def history(self) -> list[EpochResult]:
        """Return the epochs that are done."""
        return self.state.history

    @property
    def batch_count(self) -> int:
        """Count the optimizer steps in an epoch."""
        return self.schedule.batch_count

    @property
    def steps(self) -> int:
        """Count the optimizer steps in the whole run."""
        return self.schedule.steps

    @property
    def freeze_step(self) -> int:
        """Return the first optimizer step, counted from 0, that trains on frozen grids; `steps` if none does."""
        return self.schedule.freeze_step

    def run(
        self,
        output: Path,
        *,
        best: Path | None = None,
        on_epoch: Callable[[EpochResult], None] = lambda result: None,
        on_step: OnStep = lambda step, steps, loss: None,
        record: Record = lambda record: None,
    ) -> TrainResult:
        """Train. `output` holds a loadable checkpoint from the start, replaced after every epoch.

        Args:
            output: Where the checkpoint goes.
            best: Where the checkpoint of the best epoch goes, of those that train on frozen grids; where there is none,
                the trained network. In a resumed run a file that is there is this run's own.
            on_epoch: Called after each epoch.
            on_step: Called after each optimizer step with its number from 1, their total, and the loss.
            record: Takes the records of run_log.py. All three are called in the main process only.

        Raises:
            OutputError: A file cannot be written.
            DivergedError: The loss exploded, or became NaN or infinite; the message names the file that holds the last
                good epoch.
            BudgetError: The budget is out of reach.
            RanksDisagreeError: The processes have grown apart.
        """
        config, is_main = self.config, self.ranks.is_main
        if is_main:
            world_size, done = self.ranks.world_size, len(self.history)
            record(start_record(output.stem, config, steps=self.steps, world_size=world_size, resumed_epoch=done))
        if not self.history:
            self._save_unfinished(output, {})
        has_best = best is not None and bool(self.history) and best.exists()
        for epoch in range(len(self.history), config.epochs):
            began = time.monotonic()
            result, layers = self._run_epoch(epoch, on_step if is_main else lambda step, steps, loss: None)
            metrics = {"test_accuracy": result.test_accuracy}
            if best is not None and self._is_best():
                # Before `output`: a run that is killed in between takes this epoch again, and misses no best one.
                if is_main:
                    self.checkpoints.save_epoch(best, epoch, metrics)
                has_best = True
            if is_main:
                # Before `output` too: what a checkpoint holds is in the log, and what only the log holds is done again.
                seconds, lr = time.monotonic() - began, float(self.state.scheduler.get_last_lr()[0])
                record(epoch_record(result, layers, lambda_bit=self._lambdas()[1], lr=lr, seconds=seconds))
            self._save_unfinished(output, metrics)
            if is_main:
                on_epoch(result)
        trained = self._finish()
        if is_main:
            metrics = final_metrics(trained.test_accuracy, trained.cost)
            if best is not None and not has_best:
                self.checkpoints.save_epoch(best, config.epochs - 1, metrics)
            record(result_record(self.model, trained.test_accuracy, trained.cost))
            self.checkpoints.save_finished(output, metrics)
        return trained

    def try_step(self) -> float:
        """Train one step on the first inputs, and return its seconds. A run would not be the same after it."""
        batch = self.batches.first()
        self._computing().train()
        began = time.monotonic()
        self.train_step(batch)
        return time.monotonic() - began

    def evaluate(self, split: Split) -> float:
        """Measure the share of inputs whose largest output is at their label, in eval mode; all processes take part."""
        return accuracy(self._computing(), split, self.ranks, self.device)

    def _computing(self) -> nn.Module:
        """Return the network as it is deployed: with its activations quantized, where they are."""
        return self.model if self.state.quantized is None else self.state.quantized

    def _compiles(self) -> bool:
        """Decide about the whole run: a step of another kind would give other bits."""
        config = self.config
        if config.compile == "model" and self.ranks.world_size > 1:
            raise RanksError("--compile model is for one process; leave it out, or train with one")
        if config.compile != "auto":
            return config.compile == "model"
        if self.ranks.world_size > 1 or config.activations == "int8":
            return False
        macs = summary(self.model, self.data.input_shape).macs
        return macs * len(self.data.train) * config.epochs >= COMPILED_MACS

    def _build_controller(self) -> BudgetController | None:
        schedule, budget = self.schedule, self.config.budget
        if budget is None:
            return None
        return BudgetController(
            self.model,
            budget,
            self.data.input_shape,
            schedule.freeze_step,
            hold_steps=schedule.steps - schedule.freeze_step,
            theta_lr=schedule.theta_lr,
            bit_ratio=self.config.bit_ratio,
        )

    def _identity(self) -> dict[str, Any]:
        """Collect what all processes must have in common before they exchange anything else."""
        data = self.data
        return self.model.state_dict() | {
            "config": str(self.config),
            "teacher": self.state.teacher_sha256,
            "train_labels": data.train.labels,
            "test_labels": data.test.labels,
            "statistics": [data.mean, data.std],
            "calibration_inputs": self.inputs.calibration,
            "held_inputs": self.inputs.held,
        }

    def _run_epoch(self, epoch: int, on_step: OnStep) -> tuple[EpochResult, list[dict[str, Any]]]:
        """Train and measure one epoch; the result joins the history."""
        loss = self._train_epoch(on_step)
        if not all(bool(torch.isfinite(parameter).all()) for parameter in self.model.parameters()):
            # The last step broke what its own loss did not show: such weights must not replace good ones.
            found = where_diverged(self.model, self.inputs.calibration.to(self.device))
            raise DivergedError(
                f"{found} after epoch {epoch + 1}; {self.saved} holds epoch {epoch}; try a smaller --lr"
            )
        test_accuracy, lambda_dz = self.evaluate(self.data.test), self._lambdas()[0]
        channels = self.state.channels
        result, layers = measure_epoch(
            self.model,
            self.data.input_shape,
            epoch=epoch,
            loss=loss,
            test_accuracy=test_accuracy,
            lambda_dz=lambda_dz,
            macs=1.0 if channels is None else channels.macs,
            latency=1.0 if channels is None or self.times is None else channels.reached,
        )
        self.history.append(result)
        if self.ranks.world_size > 1:
            check_agreement(f"the weights after epoch {epoch + 1}", digest_of(self.model.state_dict()))
        return result, layers

    def _train_epoch(self, on_step: OnStep) -> float:
        """Pass over the training set once; returns the mean loss."""
        state = self.state
        self._computing().train()
        summed = 0.0
        for batch in self.batches.epoch(state.generator):
            if state.step == self.freeze_step:
                self._finish_grids()
            loss = self.train_step(batch)
            if state.guard.diverged(loss):
                self.model.zero_grad()
                epoch, found = len(self.history), where_diverged(self.model, batch.inputs.to(self.device))
                raise DivergedError(
                    f"the loss became {loss:.3g} in epoch {epoch + 1}: {found}; "
                    f"{self.saved} holds epoch {epoch}; try a smaller --lr"
                )
            summed += loss * batch.size
            on_step(state.step, self.steps, loss)
        return summed / len(self.data.train)

    def _finish_grids(self) -> None:
        if self.state.channels is not None:
            self.state.channels.finish()
        if self.state.controller is not None:
            self.state.controller.finish()  # freezes
        else:
            freeze(self.model)
        if self.state.quantized is not None:
            self.state.quantized.calibrate((self.inputs.calibration.to(self.device),))

    def _finish(self) -> TrainResult:
        """Turn the network of the last epoch into the one to deploy, and measure it."""
        if self.freeze_step >= self.steps:
            self._finish_grids()  # no part of the run was to train on frozen grids
        inputs = (inputs.to(self.device) for inputs in self.batches.in_order(BATCH_NORM_BATCHES))
        reestimate_batch_norm(self._computing(), inputs)
        self.model.eval()
        test_accuracy = self.evaluate(self.data.test)
        cost = summary(self.model, self.data.input_shape)
        shrunk = latency = None
        if self.state.channels is not None:
            small, shrunk = shrink(self.model, self.inputs.calibration[:2].to(self.device))
            latency = None if self.times is None else self.times.of_network(small)
        return TrainResult(self.model, test_accuracy, cost, tuple(self.history), shrunk, latency)

    def _is_best(self) -> bool:
        """Tell whether the last epoch is the best so far of those on frozen grids (of all, for a float twin)."""
        if not self.config.is_float and self.state.step <= self.freeze_step:
            return False
        return is_best(self.history, 0 if self.config.is_float else self.freeze_step // self.batch_count)

    def _lambdas(self) -> tuple[float, float]:
        return current_lambdas(self.config, self.model, self.state.controller)

    def _save_unfinished(self, output: Path, metrics: dict[str, float]) -> None:
        if self.ranks.is_main:
            self.checkpoints.save_unfinished(output, metrics)
        self.saved = output


def train(
    config: TrainConfig,
    output: Path,
    *,
    resume: Checkpoint | None = None,
    on_epoch: Callable[[EpochResult], None] = lambda result: None,
    on_step: OnStep = lambda step, steps, loss: None,
) -> TrainResult:
    """Run a configuration in this process: `Trainer(config, resume=resume).run(output, ...)`."""
    return Trainer(config, resume=resume).run(output, on_epoch=on_epoch, on_step=on_step)
