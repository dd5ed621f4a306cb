"""Each operator has one lowering, and every file of lowerings is among the families."""

import pkgutil
from typing import Any

import pytest
import torch

from export.tflite import operators
from export.tflite.operators import families, registry

HELPERS = {"families", "layer_operands", "registry", "requantization", "window"}
"""Modules that lower nothing."""


def test_two_lowerings_are_refused() -> None:
    def lower(build: Any, node: Any) -> None: ...

    with pytest.raises(ValueError, match=r"aten\.relu\.default has two lowerings"):
        registry.lowers(torch.ops.aten.relu.default)(lower)


def test_every_family_is_listed_and_registers() -> None:
    files = {module.name for module in pkgutil.iter_modules(operators.__path__)}
    listed = {family.__name__.rpartition(".")[2] for family in families.FAMILIES}
    assert listed == files - HELPERS
    assert {function.__module__ for function in registry.LOWERINGS.values()} == {f.__name__ for f in families.FAMILIES}
