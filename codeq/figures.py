"""Pictures of training runs. Needs matplotlib (`codeq[figures]`)."""

from codeq.figure_style import check_figure, save_figure
from codeq.pareto_figure import draw_pareto
from codeq.run_figures import draw_layers, draw_progress, draw_weights

__all__ = ["check_figure", "draw_layers", "draw_pareto", "draw_progress", "draw_weights", "save_figure"]
