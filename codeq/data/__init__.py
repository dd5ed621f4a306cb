"""This package loads data sets a batch at a time, and what people calibrate with from files, folders and loaders."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from codeq.data.names import SOURCES

if TYPE_CHECKING:
    from codeq.data.calibration import read_calibration
    from codeq.data.collect import collect_calibration
    from codeq.data.dataset import AUGMENTATION_DRAWS, Dataset, Split
    from codeq.data.loader import batches
    from codeq.data.sources import load_dataset

__all__ = [
    "AUGMENTATION_DRAWS",
    "SOURCES",
    "Dataset",
    "Split",
    "batches",
    "collect_calibration",
    "load_dataset",
    "read_calibration",
]

_HOME = {
    "AUGMENTATION_DRAWS": "codeq.data.dataset",
    "Dataset": "codeq.data.dataset",
    "Split": "codeq.data.dataset",
    "batches": "codeq.data.loader",
    "collect_calibration": "codeq.data.collect",
    "load_dataset": "codeq.data.sources",
    "read_calibration": "codeq.data.calibration",
}


def __getattr__(name: str) -> Any:
    # Lazy, so that a command names the sources before PyTorch is loaded.
    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    raise AttributeError(f"module 'codeq.data' has no attribute {name!r}")
