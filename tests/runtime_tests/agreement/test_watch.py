"""Codes that differ, counted input by input, and the ones that a tie excuses."""

import numpy as np
import pytest
import torch

from export.errors import ExportError
from runtime_tests.agreement.watch import Watch, differing_per_input


@pytest.mark.parametrize("shape", [(4, 3), (8, 3), (5, 4, 3)], ids=["batch", "batch x heads", "tokens first"])
def test_codes_are_counted_by_input(shape: tuple[int, ...]) -> None:
    first = np.zeros(shape, np.uint8)
    second = first.copy()
    if len(shape) == 3:
        second[:2, 1] = 1
    else:
        second[len(second) // 4 : len(second) // 2] = 1
    counts = differing_per_input(first, second, 4)
    assert counts.tolist() == [0, np.count_nonzero(second), 0, 0]
    assert differing_per_input(np.zeros(3), np.array([0, 1, 1]), 4).tolist() == [2, 2, 2, 2]


def test_a_watch_hands_on_what_the_runtime_has_and_tells_ties_from_more() -> None:
    ours = torch.tensor([[10, 20], [30, 40]], dtype=torch.uint8)
    found = {
        "tie": np.array([[10, 21], [30, 40]], np.uint8),
        "off": np.array([[10, 20], [33, 40]], np.uint8),
        "same": ours.numpy(),
    }
    watch = Watch(found, 2)
    steps = torch.tensor([[10.0, 20.5], [30.0, 40.0]])
    for name in found:
        assert np.array_equal(watch(name, ours, lambda: steps).numpy(), found[name])
    assert {name: counts.tolist() for name, counts in watch.differing.items()} == {
        "tie": [1, 0],
        "off": [0, 1],
        "same": [0, 0],
    }
    assert watch.steps == {"tie": 1, "off": 3}
    assert watch.ties == {"tie"}


def test_codes_of_another_shape() -> None:
    watch = Watch({"a": np.zeros((2, 3), np.uint8)}, 2)
    with pytest.raises(ExportError, match=r"a: a runtime has codes of shape \(2, 3\), not \(2, 2\)"):
        watch("a", torch.zeros(2, 2, dtype=torch.uint8), lambda: torch.zeros(2, 2))
