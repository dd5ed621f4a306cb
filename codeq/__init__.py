"""CoDeQ: train networks whose weights become zeros and few-bit codes in the same gradient descent."""

from codeq.toolkit import interrupt as _interrupt  # noqa: F401, I001  before all else

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from codeq.activations.encoding import ActivationEncoding
    from codeq.activations.learned_step import QuantizedActivations
    from codeq.adopt.published import from_published
    from codeq.adopt.recovered import recover
    from codeq.adopt.report import AdoptReport
    from codeq.channels.shrink import ShrinkReport, Shrunk, shrink
    from codeq.checkpoint import Checkpoint, load, save
    from codeq.cost import CostSummary, summary
    from codeq.errors import (
        AttachError,
        CalibrationError,
        CheckpointError,
        CodeqError,
        DataError,
        OutputError,
        RecoverError,
        TraceError,
    )
    from codeq.quantizer.attach import AttachReport, attach, collapsed, detach, enable, encode, freeze
    from codeq.quantizer.dead_zone import DeadZoneQuantizer
    from codeq.quantizer.fused import set_compile
    from codeq.quantizer.grid import WeightEncoding
    from codeq.training.budget import Budget, BudgetError
    from codeq.training.budget_controller import BudgetController
    from codeq.training.channel_controller import ChannelController
    from codeq.training.param_groups import param_groups
    from codeq.version import __version__

__all__ = [
    "ActivationEncoding",
    "AdoptReport",
    "AttachError",
    "AttachReport",
    "Budget",
    "BudgetController",
    "BudgetError",
    "CalibrationError",
    "ChannelController",
    "Checkpoint",
    "CheckpointError",
    "CodeqError",
    "CostSummary",
    "DataError",
    "DeadZoneQuantizer",
    "OutputError",
    "QuantizedActivations",
    "RecoverError",
    "ShrinkReport",
    "Shrunk",
    "TraceError",
    "WeightEncoding",
    "__version__",
    "attach",
    "collapsed",
    "detach",
    "enable",
    "encode",
    "freeze",
    "from_published",
    "load",
    "param_groups",
    "recover",
    "save",
    "set_compile",
    "shrink",
    "summary",
]

_HOME = {
    "ActivationEncoding": "codeq.activations.encoding",
    "AdoptReport": "codeq.adopt.report",
    "AttachError": "codeq.errors",
    "AttachReport": "codeq.quantizer.attach",
    "Budget": "codeq.training.budget",
    "BudgetController": "codeq.training.budget_controller",
    "ChannelController": "codeq.training.channel_controller",
    "BudgetError": "codeq.training.budget",
    "CalibrationError": "codeq.errors",
    "Checkpoint": "codeq.checkpoint",
    "CheckpointError": "codeq.errors",
    "CodeqError": "codeq.errors",
    "CostSummary": "codeq.cost",
    "DataError": "codeq.errors",
    "DeadZoneQuantizer": "codeq.quantizer.dead_zone",
    "OutputError": "codeq.errors",
    "QuantizedActivations": "codeq.activations.learned_step",
    "RecoverError": "codeq.errors",
    "ShrinkReport": "codeq.channels.shrink",
    "Shrunk": "codeq.channels.shrink",
    "TraceError": "codeq.errors",
    "WeightEncoding": "codeq.quantizer.grid",
    "__version__": "codeq.version",
    "attach": "codeq.quantizer.attach",
    "collapsed": "codeq.quantizer.attach",
    "detach": "codeq.quantizer.attach",
    "enable": "codeq.quantizer.attach",
    "encode": "codeq.quantizer.attach",
    "freeze": "codeq.quantizer.attach",
    "from_published": "codeq.adopt.published",
    "load": "codeq.checkpoint",
    "param_groups": "codeq.training.param_groups",
    "recover": "codeq.adopt.recovered",
    "save": "codeq.checkpoint",
    "set_compile": "codeq.quantizer.fused",
    "shrink": "codeq.channels.shrink",
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
