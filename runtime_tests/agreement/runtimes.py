"""This module compares files of one checkpoint across runtimes: it opens them, and chooses the inputs they are compared
on.
"""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor

from codeq import checkpoint
from codeq.data import Dataset, batches
from codeq.graph.eval_mode import eval_mode
from export.backend import backend_of
from export.errors import ExportError
from export.program.run import run_network
from runtime_tests.agreement.comparison import BATCH_SIZE, Comparison
from runtime_tests.agreement.file_in_runtime import FileInRuntime, open_in_runtimes
from runtime_tests.agreement.runtimes_report import RuntimesReport
from runtime_tests.runners.registry import runtimes_for

HELD = 400
"""Inputs of the checkpoint that are taken where neither data nor a count is given."""


def compare_runtimes(
    loaded: checkpoint.Checkpoint,
    files: Sequence[Path],
    data: Dataset | None,
    count: int | None,
    runtimes: Sequence[str],
    *,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> RuntimesReport:
    """Compare files of one checkpoint.

    Args:
        loaded: The checkpoint.
        files: ONNX and .tflite files made from it.
        data: A `Dataset`, whose test set is taken; None takes the checkpoint's inputs.
        count: How many inputs; None takes all.
        runtimes: Names of those that may run them.
        on_progress: Called with how many inputs are done, of how many.

    Raises:
        ExportError: A file cannot be read or run, or no runtime is left for it.
    """
    if data is None:
        held, _ = loaded.inputs_to_check(count or HELD)
        parts: Iterator[tuple[Tensor, Tensor | None]] = ((part, None) for part in held.split(BATCH_SIZE))
        total, few = len(held), held[:2]
    else:
        total = min(len(data.test), count or len(data.test))
        few = data.test.load(torch.arange(min(2, total)))
        parts = iter(batches(data.test, torch.arange(total).split(BATCH_SIZE)))
    with torch.no_grad(), eval_mode(loaded.model):
        opened: list[FileInRuntime] = []
        for file in files:
            chosen = [runtime for runtime in runtimes_for(file) if runtime.name in runtimes]
            if not chosen:
                raise ExportError(f"{file}: none of the runtimes {', '.join(runtimes)} takes it")
            opened += open_in_runtimes(backend_of(file).read(file), chosen, loaded.model, few, BATCH_SIZE)
        comparison = Comparison(opened)
        for inputs, labels in parts:
            expected = run_network(loaded.model, (inputs,), BATCH_SIZE)[0]
            comparison.add(expected, inputs, None if labels is None else labels.numpy())
            on_progress(comparison.inputs, total)
    return comparison.report()
