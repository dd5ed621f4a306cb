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


class _Package(ModuleType):
    """Keeps each factory under its name, where an import of the factory's module would put that module."""

    def __setattr__(self, name: str, value: Any) -> None:
        if not (name in NAMES and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package


def __getattr__(name: str) -> Any:
    # Lazy, so that a command knows the names before PyTorch is loaded.
    if name not in __all__:
        raise AttributeError(f"module 'models' has no attribute {name!r}")
    registry = import_module("models.registry")
    return registry.MODELS[name].factory if name in NAMES else getattr(registry, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
