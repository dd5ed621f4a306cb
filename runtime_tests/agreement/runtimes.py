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
from codeq.graph.inputs import Inputs, count_inputs, slice_inputs
from export.backend import backend_of
from export.errors import ExportError
from export.program.run import run_network, take_inputs
from export.stored_network import stored_network
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
        total = count_inputs(held)
        few = slice_inputs(held, slice(2))
        starts = range(0, total, BATCH_SIZE)
        parts: Iterator[tuple[Inputs, Tensor | None]] = (
            (slice_inputs(held, slice(start, start + BATCH_SIZE)), None) for start in starts
        )
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
            stored = backend_of(file).read(file)
            network = stored_network(stored, loaded.model, few)
            opened += open_in_runtimes(stored, chosen, network, few, BATCH_SIZE)
        comparison = Comparison(opened)
        for inputs, labels in parts:
            tensors, names = take_inputs(loaded.model, inputs)
            expected = run_network(loaded.model, tensors, BATCH_SIZE, names)[0]
            comparison.add(expected, tensors, None if labels is None else labels.numpy())
            on_progress(comparison.inputs, total)
    return comparison.report()
