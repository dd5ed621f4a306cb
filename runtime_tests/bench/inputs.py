"""This module draws random inputs, the same for every file that takes the same inputs."""

from typing import Any

import numpy as np

from export.runner import Runner


def random_inputs(runner: Runner, batch: int) -> Any:
    """Draw inputs as a file takes them: normal floats, zeros for integers.

    Args:
        runner: Opened.
        batch: Size of the open dimensions.
    """
    rng = np.random.default_rng(0)
    arrays = []
    for slot in runner.inputs:
        shape = slot.at_batch(batch)
        values = rng.standard_normal(shape) if slot.dtype == np.float32 else np.zeros(shape)
        arrays.append(values.astype(slot.dtype))
    return runner.prepare(arrays)
