"""This package draws pictures of training runs and of budgets. It needs matplotlib, the extra `figures`."""

from codeq.figures.frontier import draw_frontier
from codeq.figures.pareto import draw_pareto
from codeq.figures.runs import draw_layers, draw_progress, draw_weights
from codeq.figures.style import check_figure, save_figure

__all__ = [
    "check_figure",
    "draw_frontier",
    "draw_layers",
    "draw_pareto",
    "draw_progress",
    "draw_weights",
    "save_figure",
]
