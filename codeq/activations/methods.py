"""This module names the ways to choose the range of an activation; codeq/activations/ranges.py has the ways."""

from typing import Literal

Method = Literal["mse", "percentile", "min-max"]
METHODS: tuple[Method, ...] = ("mse", "percentile", "min-max")
