"""Make the records of a run, whose fields run_log.py lists: at its start, after each epoch, and of its result."""

from dataclasses import asdict
from typing import Any

import torch
from torch import nn

from codeq.cost import CostSummary
from codeq.training.metrics import EpochResult
from codeq.training.recipe import TrainConfig
from codeq.training.weight_histograms import weight_histograms
from codeq.version import __version__

EPOCH_FIELDS = ("loss", "test_accuracy", "sparsity", "bits", "relative_bops", "entropy_bytes", "lambda_dz")


def start_record(name: str, config: TrainConfig, *, steps: int, world_size: int, resumed_epoch: int) -> dict[str, Any]:
    """Make the record of a run that starts, or goes on.

    Args:
        name: What to call the run; one that a terminal could not print becomes "run".
        config: Its recipe.
        steps: Optimizer steps in the whole run.
        world_size: Processes that train together.
        resumed_epoch: Epochs that are done already.
    """
    return {
        "event": "start",
        "name": name if name.isprintable() and name else "run",
        "config": asdict(config),
        "versions": {"codeq": __version__, "torch": str(torch.__version__)},
        "steps": steps,
        "world_size": world_size,
        "resumed_epoch": resumed_epoch,
    }


def epoch_record(
    result: EpochResult, layers: list[dict[str, Any]], *, lambda_bit: float, lr: float, seconds: float
) -> dict[str, Any]:
    """Make the record of an epoch.

    Args:
        result, layers: From `measure_epoch`.
        lambda_bit: The pull on bits at its end.
        lr: Learning rate of the weights at its end.
        seconds: What it took.
    """
    return {
        "event": "epoch",
        "epoch": result.epoch + 1,
        **{name: getattr(result, name) for name in EPOCH_FIELDS},
        "lambda_bit": lambda_bit,
        "lr": lr,
        "seconds": seconds,
        "layers": layers,
    }


def result_record(model: nn.Module, test_accuracy: float, cost: CostSummary) -> dict[str, Any]:
    """Make the record of a finished run, with histograms of the float weights behind the quantizers.

    Raises:
        ValueError: A weight has NaN or infinite entries.
    """
    weights = weight_histograms(model)
    return {"event": "result", "test_accuracy": test_accuracy, "cost": cost.to_dict(), "weights": weights}
