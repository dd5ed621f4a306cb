"""Layers to try methods on: small ones with mixed inputs, and one that is like a layer behind a ReLU."""

import math

import torch
from torch import Tensor

from codeq.compress.alignment import DAMPING
from codeq.compress.problem import LayerProblem, RowGrid
from codeq.compress.ranges import row_grid, squared_error_ranges
from codeq.quantizer.grid import Grid


def problem_of(rows: int, columns: int, seed: int, *, samples: int = 400, moved: float = 0.0) -> LayerProblem:
    """Mixed Gaussian inputs; `moved` is by how much the compressed network's differ from the float one's."""
    x, y, weight = samples_of(rows, columns, seed, samples=samples, moved=moved)
    return LayerProblem(weight, x.T @ x / samples, x.T @ y / samples if moved else None)


def samples_of(
    rows: int, columns: int, seed: int, *, samples: int = 400, moved: float = 0.0
) -> tuple[Tensor, Tensor, Tensor]:
    """The inputs of both networks, float64 `(samples, columns)`, and the weight of `problem_of`."""
    rng = torch.Generator().manual_seed(seed)
    mixed = torch.randn(columns, columns, generator=rng, dtype=torch.float64)
    y = torch.randn(samples, columns, generator=rng, dtype=torch.float64) @ mixed
    weight = torch.randn(rows, columns, generator=rng)
    x = y + moved * torch.randn(samples, columns, generator=rng, dtype=torch.float64) if moved else y
    return x, y, weight


def grid_of(rows: int, quant_max: int, offset: int = 0) -> RowGrid:
    """Ranges between 1 and 3; an offset is in half steps."""
    scale = torch.linspace(0.5, 1.5, rows) * 2 / (2 * quant_max + offset)
    return RowGrid(scale, 2 if offset else 1, offset, quant_max)


def loss(problem: LayerProblem, values: Tensor, damping: float = 0.0) -> Tensor:
    """The mean square of each row's error, `(rows,)`."""
    difference = values.double() - problem.weight.double()
    moments = problem.moments.clone()
    moments.diagonal().add_(damping)
    return (difference @ moments * difference).sum(1)


def damping_of(problem: LayerProblem) -> float:
    return DAMPING * float(problem.moments.diagonal().mean())


def behind_relu(rows: int = 64, columns: int = 128, *, samples: int = 1000) -> tuple[LayerProblem, Tensor]:
    """A layer with inputs as a ReLU gives them; and the moments of other inputs of the kind, to judge on."""
    rng = torch.Generator().manual_seed(0)
    causes = torch.randn(2 * samples, columns // 2, generator=rng, dtype=torch.float64)
    mixed = torch.randn(columns // 2, columns, generator=rng, dtype=torch.float64) / math.sqrt(columns // 2)
    noise = torch.randn(2 * samples, columns, generator=rng, dtype=torch.float64)
    x = (causes @ mixed + 0.3 * noise).relu()
    weight = torch.randn(rows, columns, generator=rng) / math.sqrt(columns)
    seen, held = (part.T @ part / samples for part in x.chunk(2))
    return LayerProblem(weight, seen), held


def plain_grid(problem: LayerProblem, bits: int) -> RowGrid:
    """Evenly spaced levels, ranges by squared error."""
    quant_max = 2 ** (bits - 1) - 1
    unit = Grid(1 / quant_max, 1, 0, quant_max, 0.0)
    return row_grid(unit, squared_error_ranges(problem.weight, unit))


def relative_error(problem: LayerProblem, moments: Tensor, values: Tensor) -> float:
    """The power of the error over that of the layer's result."""
    judged = LayerProblem(problem.weight, moments)
    return float(loss(judged, values).sum() / loss(judged, torch.zeros_like(problem.weight)).sum())
