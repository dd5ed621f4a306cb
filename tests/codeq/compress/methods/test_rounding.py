"""Rounding takes the nearest level of the dead-zone grid."""

import torch

from codeq.compress.methods.rounding import rounding
from codeq.compress.problem import LayerProblem, RowGrid


def test_levels_by_hand() -> None:
    grid = RowGrid(torch.tensor([0.5, 1.0]), 1, 0, 7)
    weight = torch.tensor([[0.6, -0.2, 9.0], [0.6, -1.4, 0.4]])
    levels = rounding(LayerProblem(weight, torch.empty(0)), grid)
    assert levels.dtype is torch.int8
    assert levels.tolist() == [[1, 0, 7], [1, -1, 0]]
    assert grid.values(levels).tolist() == [[0.5, 0.0, 3.5], [1.0, -1.0, 0.0]]


def test_a_dead_zone_by_hand() -> None:
    """code = 2 k + 3 sign(k): the first level is at 5, and what is below 4 in magnitude is zero."""
    grid = RowGrid(torch.tensor([1.0]), 2, 3, 7)
    levels = rounding(LayerProblem(torch.tensor([[3.9, 4.1, -5.9, 6.1]]), torch.empty(0)), grid)
    assert levels.tolist() == [[0, 1, -1, 2]]
    assert grid.values(levels).tolist() == [[0.0, 5.0, -5.0, 7.0]]
