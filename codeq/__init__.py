"""CoDeQ: train networks whose weights become zeros and few-bit codes in the same gradient descent."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from codeq.activation_encoding import ActivationEncoding
    from codeq.budget import Budget, BudgetController, BudgetError
    from codeq.checkpoint import Checkpoint, load, save
    from codeq.cost import CostSummary, summary
    from codeq.dead_zone import DeadZoneQuantizer
    from codeq.errors import (
        AttachError,
        CalibrationError,
        CheckpointError,
        CodeqError,
        DataError,
        OutputError,
        TraceError,
    )
    from codeq.grid import WeightEncoding
    from codeq.layers import AttachReport, attach, collapsed, detach, enable, encode, freeze
    from codeq.learned_step import QuantizedActivations
    from codeq.optim import param_groups
    from codeq.version import __version__

__all__ = [
    "ActivationEncoding",
    "AttachError",
    "AttachReport",
    "Budget",
    "BudgetController",
    "BudgetError",
    "CalibrationError",
    "Checkpoint",
    "CheckpointError",
    "CodeqError",
    "CostSummary",
    "DataError",
    "DeadZoneQuantizer",
    "OutputError",
    "QuantizedActivations",
    "TraceError",
    "WeightEncoding",
    "__version__",
    "attach",
    "collapsed",
    "detach",
    "enable",
    "encode",
    "freeze",
    "load",
    "param_groups",
    "save",
    "summary",
]

_HOME = {
    "ActivationEncoding": "codeq.activation_encoding",
    "AttachError": "codeq.errors",
    "AttachReport": "codeq.layers",
    "Budget": "codeq.budget",
    "BudgetController": "codeq.budget",
    "BudgetError": "codeq.budget",
    "CalibrationError": "codeq.errors",
    "Checkpoint": "codeq.checkpoint",
    "CheckpointError": "codeq.errors",
    "CodeqError": "codeq.errors",
    "CostSummary": "codeq.cost",
    "DataError": "codeq.errors",
    "DeadZoneQuantizer": "codeq.dead_zone",
    "OutputError": "codeq.errors",
    "QuantizedActivations": "codeq.learned_step",
    "TraceError": "codeq.errors",
    "WeightEncoding": "codeq.grid",
    "__version__": "codeq.version",
    "attach": "codeq.layers",
    "collapsed": "codeq.layers",
    "detach": "codeq.layers",
    "enable": "codeq.layers",
    "encode": "codeq.layers",
    "freeze": "codeq.layers",
    "load": "codeq.checkpoint",
    "param_groups": "codeq.optim",
    "save": "codeq.checkpoint",
    "summary": "codeq.cost",
}


def __getattr__(name: str) -> Any:
    # Lazy, so that what needs no PyTorch (opening and inspecting files) runs without it.
    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    try:
        return import_module(f"codeq.{name}")
    except ModuleNotFoundError as error:
        if error.name != f"codeq.{name}":
            raise
        raise AttributeError(f"module 'codeq' has no attribute {name!r}") from None


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
