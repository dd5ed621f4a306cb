"""The training loop: weights by AdamW or SGD, dead zones by lambda or to a budget, grids frozen for the last part.

Weights follow a cosine behind a linear warm-up. Thetas follow the paper's dynamics (optim.py), with the learning rate
scaled so that they travel as far as in the paper's longest recipe however short the run is; with a budget the
controller moves them (budget_controller.py). BatchNorm is re-estimated at the end. Every process of a run takes the
same decisions from the same weights; only the first one writes.
"""

import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import models
from codeq import checkpoint
from codeq.activations.learned_step import QuantizedActivations
from codeq.cost import CostSummary, summary
from codeq.data import AUGMENTATION_DRAWS, Split, batches, load_dataset
from codeq.errors import CheckpointError, CodeqError, DataError, first_line
from codeq.quantizer.attach import AttachReport, attach, freeze, quantized_weights
from codeq.training.agreement import check_agreement, digest_of
from codeq.training.batch_norm import reestimate_batch_norm
from codeq.training.budget_controller import BudgetController
from codeq.training.distillation import distillation_loss, load_teacher
from codeq.training.distributed import Ranks, loss_weight, share, total, wrap
from codeq.training.divergence import LossGuard, where_diverged
from codeq.training.flag_values import FLOAT_BITS
from codeq.training.init_weights import load_init
from codeq.training.optim import param_groups
from codeq.training.recipe import TrainConfig
from codeq.training.run_log import weight_histograms
from codeq.training.sync_batch_norm import synchronize_batch_norm
from codeq.version import __version__

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
STORED_INPUTS = 128
"""Inputs kept in the checkpoint from each of the training and the test set."""
BATCH_NORM_BATCHES = 100
EVALUATION_BATCH = 500
ACTIVATION_LR = 1e-3
"""Of the activation quantizers, whose parameters are relative: log2 of a scale, share of a range."""


ALONE = Ranks(0, 1)


class DivergedError(CodeqError):
    """The loss exploded, or became NaN or infinite."""


@dataclass(frozen=True)
class EpochResult:
    """What an epoch gave.

    Attributes:
        epoch: From 0.
        loss: Mean training loss.
        test_accuracy, sparsity: In [0, 1].
        bits: Mean bits per quantized weight.
        relative_bops: The paper's, in [0, 1].
        entropy_bytes: Shannon bound of the codes.
        lambda_dz: As it was at the end; the controller's with a budget, 0 once grids are frozen.
        zeros_range, bits_range: The least and the most of any layer.
    """

    epoch: int
    loss: float
    test_accuracy: float
    sparsity: float
    bits: float
    relative_bops: float
    entropy_bytes: float
    lambda_dz: float
    zeros_range: tuple[float, float]
    bits_range: tuple[int, int]

    def __str__(self) -> str:
        zeros, bits = self.zeros_range, self.bits_range
        widths = f"bits {self.bits:.2f}" + (f" ({bits[0]} to {bits[1]})" if bits[0] != bits[1] else "")
        return (
            f"loss {self.loss:.4f}  accuracy {self.test_accuracy:.2%}  "
            f"zeros {self.sparsity:.1%} ({zeros[0]:.0%} to {zeros[1]:.0%})  {widths}"
        )


@dataclass(frozen=True, eq=False)
class TrainResult:
    """The trained network in eval mode, its test accuracy after BatchNorm was re-estimated, and its costs."""

    model: nn.Module
    test_accuracy: float
    cost: CostSummary
    history: tuple[EpochResult, ...]


class Trainer:
    """One run, ready to go: data loaded, network built and attached, nothing written.

    Args:
        config: The run. With `resume`, the config stored there.
        resume: A checkpoint of an unfinished run of `config`: the rest of the run is bit-identical to an
            uninterrupted one (same machine, same numbers of threads and processes).
        ranks: From `start_ranks`.
        device: Where to compute.
        workers: Threads that decode images.
        factory: Builds the network where `config.model` is not a registry name.

    Raises:
        DataError, CheckpointError, BudgetError, RanksError: Bad input.
    """

    def __init__(
        self,
        config: TrainConfig,
        *,
        resume: checkpoint.Checkpoint | None = None,
        ranks: Ranks = ALONE,
        device: str | torch.device = "cpu",
        workers: int = 0,
        factory: Callable[[], nn.Module] | None = None,
    ) -> None:
        self.config = config
        self.factory = factory
        self.ranks = ranks
        self.device = torch.device(device)
        self.data = load_dataset(
            config.data, shift=config.shift, flip=config.flip, input_size=config.input_size, workers=workers
        )
        if len(self.data.train) < 2:
            raise DataError(f"{config.data}: one training image is too few")
        self.calibration_inputs, self.held_inputs = (
            split.load(torch.arange(min(STORED_INPUTS, len(split)))) for split in (self.data.train, self.data.test)
        )
        torch.manual_seed(config.seed)
        self.generator = torch.Generator().manual_seed(config.seed)
        self.arguments: dict[str, Any] = dict(config.model_args or {})
        if not config.is_foreign:
            try:
                self.arguments = models.arguments_for(config.model, self.data.input_shape, self.data.num_classes)
            except ValueError as error:
                raise DataError(f"{config.data} does not fit {config.model}: {error}") from error
        self.attached: AttachReport | None = None
        self.model = self._build() if resume is None else self._take(resume)
        self.model.to(self.device)
        self.clip_norm = config.clip_norm
        if self.clip_norm is None:
            clipped = config.optimizer == "sgd" and not config.is_float and _has_depthwise(self.model)
            self.clip_norm = DEPTHWISE_CLIP_NORM if clipped else 0.0
        if ranks.world_size > 1:
            synchronize_batch_norm(self.model)
        self.least = max(2, ranks.world_size)
        self.batch_count = len(_split(torch.arange(len(self.data.train)), config.batch_size, self.least))
        self.steps = self.batch_count * config.epochs
        self.freeze_step = config.freeze_step(self.steps)
        strongest = 10 * max(config.lambda_dz or 0.0, config.acting_lambda_bit, 1e-9)
        self.theta_lr = min(PAPER_THETA_TRAVEL / self.steps, MAX_THETA_LR, MAX_THETA_DECAY / strongest)
        self.controller: BudgetController | None = None
        if config.budget is not None:
            self.controller = BudgetController(
                self.model,
                config.budget,
                self.data.input_shape,
                self.freeze_step,
                hold_steps=self.steps - self.freeze_step,
                theta_lr=self.theta_lr,
                bit_ratio=config.bit_ratio,
            )
        self.quantized: QuantizedActivations | None = None
        if config.activations == "int8":
            self.quantized = QuantizedActivations(self.model, (self.calibration_inputs[:2].to(self.device),))
        self.optimizer, self.scheduler = self._optimize()
        self.teacher: nn.Module | None = None
        self.teacher_sha256: str | None = None
        if config.teacher is not None:
            path = Path(config.teacher)
            teacher = load_teacher(path, self.data.input_shape, self.data.num_classes, self.factory)
            self.teacher, self.teacher_sha256 = teacher.model.to(self.device), teacher.sha256
        self.guard = LossGuard(self.data.num_classes)
        self.history: list[EpochResult] = []
        self.step = 0
        self.saved: Path | None = None if resume is None else resume.path
        if resume is not None:
            self._restore(resume)
        check_agreement("the network, its recipe and the data", digest_of(self._identity()))
        self.network = wrap(self.model if self.quantized is None else self.quantized, ranks)

    def run(
        self,
        output: Path,
        *,
        best: Path | None = None,
        on_epoch: Callable[[EpochResult], None] = lambda result: None,
        on_step: Callable[[int, int, float], None] = lambda step, steps, loss: None,
        record: Callable[[dict[str, Any]], None] = lambda record: None,
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
        config, main = self.config, self.ranks.is_main
        if main:
            record(self._start_record(output.stem))
        if not self.history:
            self._save_last(output, {})
        has_best = best is not None and bool(self.history) and best.exists()
        for epoch in range(len(self.history), config.epochs):
            began = time.monotonic()
            loss = self._train_epoch(on_step if main else lambda step, steps, loss: None)
            if not all(bool(torch.isfinite(parameter).all()) for parameter in self.model.parameters()):
                # The last step broke what its own loss did not show: such weights must not replace good ones.
                found = where_diverged(self.model, self.calibration_inputs.to(self.device))
                raise DivergedError(
                    f"{found} after epoch {epoch + 1}; {self.saved} holds epoch {epoch}; try a smaller --lr"
                )
            result, layers = self._epoch_result(epoch, loss)
            self.history.append(result)
            if self.ranks.world_size > 1:
                check_agreement(f"the weights after epoch {epoch + 1}", digest_of(self.model.state_dict()))
            metrics = {"test_accuracy": result.test_accuracy}
            if best is not None and self._is_best():
                # Before `output`: a run that is killed in between takes this epoch again, and misses no best one.
                self._save(best, {"complete": True, "epoch": epoch}, metrics)
                has_best = True
            self._save_last(output, metrics)
            if main:
                record(self._epoch_record(result, layers, time.monotonic() - began))
                on_epoch(result)

        if self.freeze_step >= self.steps:
            self._finish_grids()  # no part of the run was to train on frozen grids
        self._reestimate_batch_norm()
        self.model.eval()
        accuracy = self.evaluate(self.data.test)
        cost = summary(self.model, self.data.input_shape)
        metrics = {
            "test_accuracy": accuracy,
            "sparsity": cost.sparsity,
            "mean_bits": cost.mean_bits,
            "relative_bops": cost.relative_bops,
            "entropy_bytes": cost.entropy_bytes,
        }
        if best is not None and not has_best:
            self._save(best, {"complete": True, "epoch": config.epochs - 1}, metrics)
        self._save(output, {"complete": True}, metrics)
        if main:
            weights = weight_histograms(self.model)
            record({"event": "result", "test_accuracy": accuracy, "cost": cost.to_dict(), "weights": weights})
        return TrainResult(self.model, accuracy, cost, tuple(self.history))

    def _identity(self) -> dict[str, Any]:
        """What all processes must have in common before they exchange anything else."""
        data = self.data
        return self.model.state_dict() | {
            "config": str(self.config),
            "teacher": self.teacher_sha256,
            "train_labels": data.train.labels,
            "test_labels": data.test.labels,
            "statistics": [data.mean, data.std],
            "calibration_inputs": self.calibration_inputs,
            "held_inputs": self.held_inputs,
        }

    def try_step(self) -> float:
        """Train one step on the first inputs, and return its seconds. A run would not be the same after it."""
        index = torch.arange(min(self.config.batch_size, len(self.data.train)))
        draws = torch.rand(len(index), AUGMENTATION_DRAWS)
        ((inputs, labels),) = batches(self.data.train, [share(index, self.ranks)], [share(draws, self.ranks)])
        self.network.train()
        began = time.monotonic()
        self._train_step(inputs, labels, len(index))
        return time.monotonic() - began

    @torch.no_grad()
    def evaluate(self, split: Split) -> float:
        """Share of inputs whose largest output is at their label, in eval mode; all processes take part."""
        network = self.model if self.quantized is None else self.quantized
        training = network.training
        network.eval()
        counts = torch.zeros(2, dtype=torch.int64)
        index = torch.arange(len(split)).tensor_split(self.ranks.world_size)[self.ranks.rank]
        # A process may have no input: there are fewer than processes.
        for inputs, labels in batches(split, index.split(EVALUATION_BATCH) if len(index) else ()):
            outputs = network(inputs.to(self.device))
            counts += torch.tensor([int((outputs.argmax(1).cpu() == labels).sum()), len(labels)])
        network.train(training)
        correct, count = total(counts).tolist()
        return correct / count

    def _build(self) -> nn.Module:
        config = self.config
        if config.is_foreign:
            model = self._build_foreign()
        else:
            try:
                model = models.create(config.model, **self.arguments)
            except ValueError as error:
                raise DataError(f"{config.data} does not fit {config.model}: {error}") from error
        if config.init is not None:
            load_init(model, Path(config.init))
        if not config.is_float:
            self.attached = attach(
                model,
                config.bits,
                grid=config.grid,
                grid_limit=config.grid_limit,
                theta_gradient=config.theta_gradient,
            )
            if config.theta_init is not None:
                for weight in quantized_weights(model):
                    nn.init.constant_(weight.quantizer.theta_dz, config.theta_init)
        return model

    def _build_foreign(self) -> nn.Module:
        """A network that the registry has not, once it has answered two inputs with logits."""
        name = f"--model {self.config.model}"
        if self.factory is None:
            raise DataError(f"{name}: is not in the registry; give its factory to Trainer")
        model = self.factory()
        inputs, expected = self.calibration_inputs[:2], (min(2, len(self.calibration_inputs)), self.data.num_classes)
        try:
            with torch.no_grad():
                logits = model.eval()(inputs)
        except Exception as error:  # it is not our code
            shape = tuple(inputs.shape)
            raise DataError(f"{name}: does not take {self.config.data}'s {shape} ({first_line(error)})") from error
        found = f"shape {tuple(logits.shape)}" if isinstance(logits, Tensor) else f"a {type(logits).__name__}"
        if found != f"shape {expected}":
            raise DataError(f"{name}: answers {found} to {self.config.data}, expected logits of shape {expected}")
        if not any(parameter.requires_grad for parameter in model.parameters()):
            raise DataError(f"{name}: has no parameter that trains; leave requires_grad on in the factory")
        tensors = (*model.named_parameters(), *model.named_buffers())  # a state_dict may hold other things
        broken = next((n for n, tensor in tensors if not bool(tensor.isfinite().all())), None)
        if broken is not None:
            raise DataError(f"{name}: {broken} has NaN or infinite entries")
        return model.train()

    def _take(self, resume: checkpoint.Checkpoint) -> nn.Module:
        if resume.input_shape != self.data.input_shape:
            raise CheckpointError(
                f"{resume.path}: is for inputs {resume.input_shape}, {self.config.data} has {self.data.input_shape}"
            )
        return resume.model

    def _optimize(self) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LambdaLR]:
        config = self.config
        kind: type[torch.optim.Optimizer] = torch.optim.AdamW if config.optimizer == "adamw" else torch.optim.SGD
        groups = param_groups(
            self.model,
            kind,
            lr=config.lr,
            weight_decay=config.weight_decay,
            momentum=config.momentum,
            theta_lr=self.theta_lr,
            lambda_dz=config.lambda_dz or 0.0,
            lambda_bit=config.acting_lambda_bit,
        )
        if self.quantized is not None:
            parameters = list(self.quantized.quantizers.parameters())
            groups.append({"kind": "activations", "params": parameters, "lr": ACTIVATION_LR, "weight_decay": 0.0})
        optimizer = kind(groups)  # type: ignore[call-arg]
        warmup = config.warmup_fraction * self.steps

        def cosine(step: int) -> float:
            return 0.5 * (1 + math.cos(math.pi * step / self.steps))

        def warm(step: int) -> float:
            return min(1.0, (step + 1) / max(warmup, 1)) * cosine(step)

        steered = config.budget is not None
        shapes = {"theta_dz": (lambda step: 1.0) if steered else cosine, "theta_bit": cosine, "activations": cosine}
        schedule = [shapes.get(group["kind"], warm) for group in groups]
        return optimizer, torch.optim.lr_scheduler.LambdaLR(optimizer, schedule)

    def _restore(self, resume: checkpoint.Checkpoint) -> None:
        state = resume.training or {}
        if state.get("teacher_sha256", self.teacher_sha256) != self.teacher_sha256:
            raise CheckpointError(
                f"--teacher {self.config.teacher}: is not the file that {resume.path} was started with; "
                "put that one back, or start a new run"
            )
        try:
            self.optimizer.load_state_dict(state["optimizer"])
            self.scheduler.load_state_dict(state["scheduler"])
            self.generator.set_state(state["generator"])
            self.history = [_epoch_from(row) for row in state["history"]]
            self.step = len(self.history) * self.batch_count
            self.guard.smoothed = float(state["smoothed_loss"])
            if self.quantized is not None:
                self.quantized.quantizers.load_state_dict(state["activation_quantizers"])
                self.quantized.calibrated.fill_(self.step > self.freeze_step)  # type: ignore[operator]
            if self.controller is not None:
                self.controller.load_state_dict(state["controller"])
        except (KeyError, TypeError, ValueError, RuntimeError, AttributeError) as error:
            raise CheckpointError(f"{resume.path}: its training state is damaged ({error})") from error

    def _train_epoch(self, on_step: Callable[[int, int, float], None]) -> float:
        """One pass over the training set; the mean loss."""
        order = torch.randperm(len(self.data.train), generator=self.generator)
        draws = torch.rand(len(order), AUGMENTATION_DRAWS, generator=self.generator)
        indices = _split(order, self.config.batch_size, self.least)
        sizes = [len(index) for index in indices]
        shares = [share(index, self.ranks) for index in indices]
        shared_draws = [share(part, self.ranks) for part in draws.split(sizes)]
        self.network.train()
        summed = 0.0
        for size, (inputs, labels) in zip(sizes, batches(self.data.train, shares, shared_draws), strict=True):
            if self.step == self.freeze_step:
                self._finish_grids()
            loss = self._train_step(inputs, labels, size)
            if self.guard.diverged(loss):
                self.model.zero_grad()
                epoch, found = len(self.history), where_diverged(self.model, inputs.to(self.device))
                raise DivergedError(
                    f"the loss became {loss:.3g} in epoch {epoch + 1}: {found}; "
                    f"{self.saved} holds epoch {epoch}; try a smaller --lr"
                )
            summed += loss * size
            on_step(self.step, self.steps, loss)
        return summed / len(order)

    def _train_step(self, inputs: Tensor, labels: Tensor, batch_size: int) -> float:
        """Forward, backward and one optimizer step on this process's share of a batch; the whole batch's loss."""
        config = self.config
        inputs, labels = inputs.to(self.device), labels.to(self.device)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=config.autocast == "bfloat16"):
            outputs = self.network(inputs).float()
            if self.teacher is not None:
                with torch.no_grad():
                    taught = self.teacher(inputs).float()
        if self.teacher is None:
            loss = F.cross_entropy(outputs, labels, label_smoothing=config.label_smoothing)
        else:
            loss = distillation_loss(
                outputs,
                labels,
                taught,
                share=config.teacher_weight,
                temperature=config.temperature,
                label_smoothing=config.label_smoothing,
            )
        value = float(total(loss.detach() * len(labels))) / batch_size
        if not math.isfinite(value):
            return value
        self.optimizer.zero_grad()
        (loss * loss_weight(len(labels), batch_size, self.ranks)).backward()
        if self.clip_norm:
            for kinds in (("weights", "no_decay"), ("theta_dz", "theta_bit")):
                groups = [group["params"] for group in self.optimizer.param_groups if group["kind"] in kinds]
                nn.utils.clip_grad_norm_([parameter for group in groups for parameter in group], self.clip_norm)
        self.optimizer.step()
        self.scheduler.step()
        self.step += 1
        if self.controller is not None:
            self.controller.step()
        return value

    def _finish_grids(self) -> None:
        if self.controller is not None:
            self.controller.finish()  # freezes
        else:
            freeze(self.model)
        if self.quantized is not None:
            self.quantized.calibrate((self.calibration_inputs.to(self.device),))

    def _frozen(self) -> bool:
        return any(bool(weight.quantizer.frozen) for weight in quantized_weights(self.model))

    def _reestimate_batch_norm(self) -> None:
        indices = _split(torch.arange(len(self.data.train)), self.config.batch_size, self.least)[:BATCH_NORM_BATCHES]
        shares = [share(index, self.ranks) for index in indices]
        inputs = (inputs.to(self.device) for inputs, _ in batches(self.data.train, shares))
        reestimate_batch_norm(self.model if self.quantized is None else self.quantized, inputs)

    def _is_best(self) -> bool:
        """Whether the last epoch is the best so far of those that ended on frozen grids (any, for a float twin)."""
        if not self.config.is_float and self.step <= self.freeze_step:
            return False
        first = 0 if self.config.is_float else self.freeze_step // self.batch_count
        accuracies = [result.test_accuracy for result in self.history[first:]]
        return accuracies[-1] > max(accuracies[:-1], default=-1.0)

    def _save(self, path: Path, training: dict[str, Any], metrics: dict[str, float]) -> None:
        if not self.ranks.is_main:
            return
        data, quantized = self.data, self.quantized
        history = [asdict(row) for row in self.history]
        checkpoint.save(
            path,
            self.model,
            input_shape=data.input_shape,
            name=None if self.config.is_foreign else self.config.model,
            factory=self.config.model if self.config.is_foreign else None,
            arguments=self.arguments,
            preprocessing={"mean": data.mean, "std": data.std},
            calibration_inputs=self.calibration_inputs,
            held_inputs=self.held_inputs,
            metrics=metrics,
            training={"config": asdict(self.config), "history": history} | training,
            activations=None if quantized is None or not quantized.calibrated else quantized.encodings(),
        )

    def _save_last(self, output: Path, metrics: dict[str, float]) -> None:
        """Write the last whole epoch, and all that the rest of the run follows from."""
        state = {
            "complete": False,
            "optimizer": self.optimizer.state_dict(),
            "scheduler": self.scheduler.state_dict(),
            "generator": self.generator.get_state(),
            "teacher_sha256": self.teacher_sha256,
            "smoothed_loss": self.guard.smoothed,
            "activation_quantizers": None if self.quantized is None else self.quantized.quantizers.state_dict(),
            "controller": None if self.controller is None else self.controller.state_dict(),
        }
        self._save(output, state, metrics)
        self.saved = output

    def _epoch_result(self, epoch: int, loss: float) -> tuple[EpochResult, list[dict[str, Any]]]:
        accuracy = self.evaluate(self.data.test)
        cost = summary(self.model, self.data.input_shape)
        thetas = {weight.name: weight.quantizer for weight in quantized_weights(self.model)}
        layers = [
            {
                "name": layer.name,
                "bits": layer.weight_bits,
                "sparsity": layer.sparsity,
                "theta_dz": thetas[layer.name].theta_dz.item(),
                "theta_bit": None if (theta := thetas[layer.name].theta_bit) is None else theta.item(),
            }
            for layer in cost.layers
            if layer.name in thetas
        ]
        quantized = [layer for layer in cost.layers if layer.name in thetas]
        numel = sum(layer.numel for layer in quantized)
        zeros = [layer.sparsity for layer in quantized] or [0.0]
        bits = [layer.weight_bits for layer in quantized] or [FLOAT_BITS]
        result = EpochResult(
            epoch=epoch,
            loss=loss,
            test_accuracy=accuracy,
            sparsity=sum(layer.numel - layer.nnz for layer in quantized) / numel if numel else 0.0,
            bits=sum(layer.weight_bits * layer.numel for layer in quantized) / numel if numel else FLOAT_BITS,
            relative_bops=cost.relative_bops,
            entropy_bytes=cost.entropy_bytes,
            lambda_dz=self._lambda_dz(),
            zeros_range=(min(zeros), max(zeros)),
            bits_range=(min(bits), max(bits)),
        )
        return result, layers

    def _lambda_dz(self) -> float:
        if self.config.is_float or self._frozen():
            return 0.0
        if self.controller is not None:
            return self.controller.strength
        return self.config.lambda_dz or 0.0

    def _lambda_bit(self) -> float:
        if self.config.bits is not None or self._frozen():
            return 0.0
        steered = 0.0 if self.controller is None else self.controller.strength * self.controller.bit_ratio
        return steered + self.config.acting_lambda_bit  # one of them is 0

    def _start_record(self, name: str) -> dict[str, Any]:
        versions = {"codeq": __version__, "torch": str(torch.__version__)}
        return {
            "event": "start",
            "name": name if name.isprintable() and name else "run",
            "config": asdict(self.config),
            "versions": versions,
            "steps": self.steps,
            "world_size": self.ranks.world_size,
            "resumed_epoch": len(self.history),
        }

    def _epoch_record(self, result: EpochResult, layers: list[dict[str, Any]], seconds: float) -> dict[str, Any]:
        names = ("loss", "test_accuracy", "sparsity", "bits", "relative_bops", "entropy_bytes", "lambda_dz")
        return {
            "event": "epoch",
            "epoch": result.epoch + 1,
            **{name: getattr(result, name) for name in names},
            "lambda_bit": self._lambda_bit(),
            "lr": self.scheduler.get_last_lr()[0],
            "seconds": seconds,
            "layers": layers,
        }


def train(
    config: TrainConfig,
    output: Path,
    *,
    resume: checkpoint.Checkpoint | None = None,
    on_epoch: Callable[[EpochResult], None] = lambda result: None,
    on_step: Callable[[int, int, float], None] = lambda step, steps, loss: None,
) -> TrainResult:
    """Run a configuration in this process: `Trainer(config, resume=resume).run(output, ...)`."""
    return Trainer(config, resume=resume).run(output, on_epoch=on_epoch, on_step=on_step)


def _has_depthwise(model: nn.Module) -> bool:
    convolutions = (module for module in model.modules() if isinstance(module, nn.modules.conv._ConvNd))
    return any(convolution.groups == convolution.in_channels > 1 for convolution in convolutions)


def _split(order: Tensor, batch_size: int, least: int = 2) -> tuple[Tensor, ...]:
    """Batches of an epoch; a last one of fewer than `least` inputs joins the one before.

    BatchNorm has no variance of one input, and every process needs an input.
    """
    parts = order.split(batch_size)
    if len(parts) > 1 and len(parts[-1]) < least:
        return (*parts[:-2], torch.cat(parts[-2:]))
    return parts


def _epoch_from(row: dict[str, Any]) -> EpochResult:
    pairs = {name: tuple(row[name]) for name in ("zeros_range", "bits_range")}
    return EpochResult(**(row | pairs))
