"""The registry: a checkpoint names its network, and only names listed here can be built from a file."""

import inspect
from collections.abc import Callable, Mapping

from torch import nn

from models.resnet8 import resnet8
from models.resnet18 import resnet18
from models.resnet20 import resnet20

MODELS: Mapping[str, Callable[..., nn.Module]] = {
    "resnet8": resnet8,
    "resnet18": resnet18,
    "resnet20": resnet20,
}


class UnknownModelError(ValueError):
    """The registry has no such network, or the network takes no such argument."""


def create(name: str, **arguments: int) -> nn.Module:
    """Build a network by registry name.

    Args:
        name: A key of `MODELS`.
        **arguments: What the factory takes, e.g. `in_channels`, `num_classes`, `input_size`.

    Raises:
        UnknownModelError: No such name, or an argument that the factory does not take.
        ValueError: An argument outside the factory's range.

    Example:
        >>> create("resnet8", in_channels=1, num_classes=10, input_size=8).input_shape
        (1, 8, 8)
    """
    factory = MODELS.get(name)
    if factory is None:
        raise UnknownModelError(f"unknown model {name!r}, expected one of {', '.join(MODELS)}")
    accepted = inspect.signature(factory).parameters
    unknown = sorted(set(arguments) - set(accepted))
    if unknown:
        raise UnknownModelError(
            f"model {name!r} takes no argument {', '.join(unknown)}, expected {', '.join(accepted)}"
        )
    return factory(**arguments)
