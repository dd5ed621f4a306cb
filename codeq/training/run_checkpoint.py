"""Write the checkpoints of a run: the last whole epoch, the best one, and the finished network."""

from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from codeq import checkpoint
from codeq.data import Dataset
from codeq.training.network import BuiltNetwork
from codeq.training.recipe import TrainConfig
from codeq.training.state import TrainingState

STORED_INPUTS = 128
"""Inputs kept in the checkpoint from each of the training and the test set."""


class StoredInputs(NamedTuple):
    """Holds the inputs that a checkpoint carries for export: from the training set, and held ones from the test set.

    Both are float32 `(n, *input_shape)`, n at most STORED_INPUTS.
    """

    calibration: Tensor
    held: Tensor

    @classmethod
    def of(cls, data: Dataset) -> "StoredInputs":
        """Take the first inputs of both splits, which are a sample of all classes."""
        splits = (data.train, data.test)
        return cls(*(split.load(torch.arange(min(STORED_INPUTS, len(split)))) for split in splits))


class RunCheckpoints:
    """Writes checkpoints of one run.

    Args:
        config: The run.
        network: What it trains.
        data: What it trains on.
        inputs: What every checkpoint carries of the data.
        state: The run's state; its history goes into every checkpoint, the rest into that of an unfinished run.
    """

    def __init__(
        self, config: TrainConfig, network: BuiltNetwork, data: Dataset, inputs: StoredInputs, state: TrainingState
    ) -> None:
        self.config = config
        self.network = network
        self.data = data
        self.inputs = inputs
        self.state = state

    def save_unfinished(self, path: Path, metrics: dict[str, float]) -> None:
        """Write the last whole epoch, and all that the rest of the run follows from.

        Raises:
            OutputError: The file cannot be written.
        """
        self._save(path, {"complete": False} | self.state.state_dict(), metrics)

    def save_epoch(self, path: Path, epoch: int, metrics: dict[str, float]) -> None:
        """Write an epoch, counted from 0, as a network to deploy.

        Raises:
            OutputError: The file cannot be written.
        """
        self._save(path, {"complete": True, "epoch": epoch}, metrics)

    def save_finished(self, path: Path, metrics: dict[str, float]) -> None:
        """Write the trained network.

        Raises:
            OutputError: The file cannot be written.
        """
        self._save(path, {"complete": True}, metrics)

    def _save(self, path: Path, training: dict[str, Any], metrics: dict[str, float]) -> None:
        config, data, quantized = self.config, self.data, self.state.quantized
        history = [asdict(row) for row in self.state.history]
        checkpoint.save(
            path,
            self.network.model,
            input_shape=data.input_shape,
            name=None if config.is_foreign else config.model,
            factory=config.model if config.is_foreign else None,
            arguments=self.network.arguments,
            preprocessing=data.preprocessing,
            labels=data.classes,
            calibration_inputs=self.inputs.calibration,
            held_inputs=self.inputs.held,
            metrics=metrics,
            training={"config": asdict(config), "history": history} | training,
            activations=None if quantized is None or not quantized.calibrated else quantized.encodings(),
        )
