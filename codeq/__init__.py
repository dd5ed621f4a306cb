"""CoDeQ: train networks whose weights become zeros and few-bit codes in the same gradient descent."""

from codeq.attach import AttachReport, attach, collapsed, detach, enable, encode, freeze
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
from codeq.learned_step import QuantizedActivations
from codeq.optim import param_groups
from codeq.ranges import ActivationEncoding
from codeq.version import __version__

__all__ = [
    "ActivationEncoding",
    "AttachError",
    "AttachReport",
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
