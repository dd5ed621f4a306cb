"""This module names the ways in which the range of an activation is chosen; codeq/activations/ranges.py has the ways."""

from typing import Literal

Method = Literal["mse", "percentile", "min-max"]
METHODS: tuple[Method, ...] = ("mse", "percentile", "min-max")
