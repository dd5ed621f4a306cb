"""Logs of training runs for the tests, written without training."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from codeq.run_log import RunLog

Record = dict[str, Any]


@pytest.fixture
def start_record() -> Record:
    versions = {"torch": "2.13.0"}
    return {"event": "start", "name": "net", "config": {"bits": 4}, "versions": versions} | {
        "steps": 30,
        "world_size": 1,
        "resumed_epoch": 0,
    }


@pytest.fixture
def epoch_record() -> Callable[..., Record]:
    """Numbers that say which epoch and layer they belong to."""

    def make(epoch: int, layers: int = 2, **changes: Any) -> Record:
        numbers = {"loss": 1 / epoch, "test_accuracy": 1 - 0.5 / epoch, "sparsity": 0.5, "bits": 4.0, "lr": 0.1}
        costs = {"relative_bops": 0.02, "entropy_bytes": 4000.0, "lambda_dz": 0.1, "lambda_bit": 0.0, "seconds": 1.5}
        rows = [
            {
                "name": f"features.{index}.block.conv1.weight",
                "bits": 2.0 + (index + epoch) % 7,
                "sparsity": index / layers,
                "theta_dz": 3.0 - epoch / 10,
                "theta_bit": None,
            }
            for index in range(layers)
        ]
        return {"event": "epoch", "epoch": epoch} | numbers | costs | {"layers": rows} | changes

    return make


@pytest.fixture
def result_record() -> Callable[..., Record]:
    """A result whose first layer is a float one, without a histogram."""

    def make(
        accuracy: float | None = 0.9,
        relative_bops: float | None = 0.02,
        entropy_bytes: float = 4000.0,
        layers: int = 2,
    ) -> Record:
        names = [f"features.{index}.block.conv1.weight" for index in range(layers)]
        rows = [{"name": name, "weight_bits": 4 if index else 32, "sparsity": 0.25} for index, name in enumerate(names)]
        total = {"sparsity": 0.75, "mean_bits": 4.5, "relative_bops": relative_bops, "entropy_bytes": entropy_bytes}
        histogram = {"edges": [-1.0, 1.0], "counts": [0, 3, 1200, 1], "dead_zone": 0.5, "levels": [-0.75, 0.0, 0.75]}
        weights = [{"name": name} | histogram for name in names[1:]]
        cost = {"layers": rows, "total": total}
        return {"event": "result", "test_accuracy": accuracy, "cost": cost, "weights": weights}

    return make


@pytest.fixture
def write_log(
    start_record: Record, epoch_record: Callable[..., Record], result_record: Callable[..., Record]
) -> Callable[..., Path]:
    """Write the log of a run: start, epochs, and the result unless it is unfinished."""

    def write(
        path: Path, name: str = "net", *, epochs: int = 3, finished: bool = True, layers: int = 2, **result: Any
    ) -> Path:
        with RunLog(path) as log:
            log.write(start_record | {"name": name})
            for epoch in range(1, epochs + 1):
                log.write(epoch_record(epoch, layers))
            if finished:
                log.write(result_record(layers=layers, **result))
        return path

    return write
