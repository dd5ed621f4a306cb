"""Random inputs are drawn once for all files: the same floats, zeros for integers, open sizes filled in."""

from typing import Any

import numpy as np

from export.input_slot import InputSlot
from runtime_tests.bench.inputs import random_inputs


class Runner:
    inputs = (
        InputSlot("image", (None, 3, 4), np.dtype(np.float32)),
        InputSlot("tokens", (None, 5), np.dtype(np.int64)),
    )

    def prepare(self, arrays: Any) -> Any:
        return arrays


def test_inputs_are_those_of_the_slots() -> None:
    runner: Any = Runner()
    image, tokens = random_inputs(runner, 2)
    assert (image.shape, image.dtype) == ((2, 3, 4), np.float32)
    assert (tokens.shape, tokens.dtype, tokens.any()) == ((2, 5), np.int64, np.False_)
    assert image.std() > 0.5
    assert np.array_equal(random_inputs(runner, 2)[0], image)
