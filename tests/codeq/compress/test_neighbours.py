"""Neighbours of a value are the levels below and above it."""

import pytest
import torch

from codeq.compress.neighbours import neighbours
from codeq.compress.problem import RowGrid

PLAIN = RowGrid(torch.tensor([0.5]), 1, 0, 3)
DEAD_ZONE = RowGrid(torch.tensor([1.0]), 2, 3, 3)  # values 0, 5, 7, 9
NARROW = RowGrid(torch.tensor([1.0]), 4, -1, 3)  # values 0, 3, 7, 11


@pytest.mark.parametrize(
    ("grid", "value", "expected"),
    [
        (PLAIN, 0.7, (1, 2)),
        (PLAIN, -0.7, (-2, -1)),
        (PLAIN, 0.0, (0, 1)),
        (PLAIN, 1.0, (2, 3)),
        (PLAIN, 1.5, (3, 3)),
        (PLAIN, -9.0, (-3, -3)),
        (DEAD_ZONE, 4.9, (0, 1)),
        (DEAD_ZONE, -4.9, (-1, 0)),
        (DEAD_ZONE, 5.1, (1, 2)),
        (DEAD_ZONE, -6.9, (-2, -1)),
        (DEAD_ZONE, 8.0, (2, 3)),
        (NARROW, 2.9, (0, 1)),
        (NARROW, 3.1, (1, 2)),
    ],
)
def test_levels_by_hand(grid: RowGrid, value: float, expected: tuple[int, int]) -> None:
    low, high = neighbours(torch.tensor([[value]], dtype=torch.float64), grid)
    assert (int(low), int(high)) == expected
