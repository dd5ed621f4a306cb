"""Plain torch.nn networks, each by registry name. Nothing here knows about quantization."""

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

from models.names import NAMES

if TYPE_CHECKING:
    from models.autoencoder import autoencoder
    from models.ds_cnn import ds_cnn
    from models.fcn_1d import fcn_1d
    from models.gru import gru
    from models.mobilenet_v1 import mobilenet_v1
    from models.mobilenet_v2 import mobilenet_v2
    from models.registry import MODELS, Network, UnknownModelError, arguments_for, create
    from models.resnet8 import resnet8
    from models.resnet18 import resnet18
    from models.resnet20 import resnet20
    from models.resnet50 import resnet50
    from models.tiny_vit import tiny_vit

__all__ = [
    "MODELS",
    "NAMES",
    "Network",
    "UnknownModelError",
    "arguments_for",
    "autoencoder",
    "create",
    "ds_cnn",
    "fcn_1d",
    "gru",
    "mobilenet_v1",
    "mobilenet_v2",
    "resnet8",
    "resnet18",
    "resnet20",
    "resnet50",
    "tiny_vit",
]


def __getattr__(name: str) -> Any:
    # Lazy, so that a command line can list the networks before PyTorch is loaded.
    if name in NAMES:
        import_module(f"models.{name}")  # binds the name, see below
        return globals()[name]
    if name in __all__:
        return getattr(import_module("models.registry"), name)
    raise AttributeError(f"module 'models' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


class _Package(ModuleType):
    """This package. Python binds a loaded submodule to its name here; `models.resnet8` is the function of that name."""

    def __setattr__(self, name: str, value: Any) -> None:
        is_network = name in NAMES and isinstance(value, ModuleType)
        super().__setattr__(name, getattr(value, name) if is_network else value)


sys.modules[__name__].__class__ = _Package
