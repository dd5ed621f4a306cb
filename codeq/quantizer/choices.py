"""This module holds the choices and bounds of a quantizer's arguments, for command lines that answer before PyTorch is
loaded.
"""

MIN_BITS = 2
MAX_BITS = 8
GRIDS = ("integer", "paper")
GRANULARITIES = ("tensor", "channel")
MIN_GRID_LIMIT = 7
MAX_GRID_LIMIT = 127
THETA_GRADIENTS = ("sum", "lsq")
MIN_THETA = 0.25
"""Collapse guard: below it the operator uses 0.25 (a dead zone of three quarters of the range).
At theta = 0 the paper's step size is 1e-8 and 99 % of a layer is zero, whatever the task says."""
MAX_THETA = 4.0
"""Above it the dead zone is less than 0.1 % of the range, whatever theta is."""
