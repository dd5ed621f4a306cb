"""Runs to draw, written without training."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from codeq.run_log import Run

MakeRun = Callable[..., Run]


@pytest.fixture
def make_run(epoch_record: Callable[..., dict[str, Any]], result_record: Callable[..., dict[str, Any]]) -> MakeRun:
    def make(name: str = "net", accuracy: float = 0.9, bops: float = 0.02, *, layers: int = 2, epochs: int = 3) -> Run:
        records = tuple(epoch_record(epoch, layers) for epoch in range(1, epochs + 1))
        return Run(name, Path(f"{name}.jsonl"), {}, records, result_record(accuracy, bops, bops * 1e6, layers))

    return make
