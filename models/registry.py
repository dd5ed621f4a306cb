"""This is the registry: a checkpoint names its network, and only names listed here can be built from a file."""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from torch import nn

from models.autoencoder import autoencoder
from models.ds_cnn import ds_cnn
from models.fcn_1d import fcn_1d
from models.gru import gru
from models.mobilenet_v1 import mobilenet_v1
from models.mobilenet_v2 import mobilenet_v2
from models.resnet8 import resnet8
from models.resnet18 import resnet18
from models.resnet20 import resnet20
from models.resnet50 import resnet50
from models.tiny_vit import tiny_vit


@dataclass(frozen=True)
class Network:
    """This record is a network of the registry.

    Attributes:
        factory: Builds it; every argument has a default, and the module's `input_shape` is one input's.
        input_axes: For each axis of one input, the factory's argument that sets its size. Twice the same: equal sizes.
    """

    factory: Callable[..., nn.Module]
    input_axes: tuple[str, ...]


IMAGE = ("in_channels", "input_size", "input_size")

MODELS: Mapping[str, Network] = {
    "resnet8": Network(resnet8, IMAGE),
    "resnet18": Network(resnet18, IMAGE),
    "resnet20": Network(resnet20, IMAGE),
    "resnet50": Network(resnet50, IMAGE),
    "mobilenet_v1": Network(mobilenet_v1, IMAGE),
    "mobilenet_v2": Network(mobilenet_v2, IMAGE),
    "tiny_vit": Network(tiny_vit, IMAGE),
    "ds_cnn": Network(ds_cnn, ("in_channels", "height", "width")),
    "fcn_1d": Network(fcn_1d, ("in_channels", "length")),
    "gru": Network(gru, ("length", "in_features")),
    "autoencoder": Network(autoencoder, ("in_features",)),
}


class UnknownModelError(ValueError):
    """The registry has no such network, or the network takes no such argument."""


def create(name: str, **arguments: int | float) -> nn.Module:
    """Build a network by registry name.

    Args:
        name: A key of `MODELS`.
        **arguments: What the factory takes, e.g. `in_channels`, `num_classes`, `input_size`.

    Raises:
        UnknownModelError: No such name, or an argument that the factory does not take.
        ValueError: An argument outside the factory's range.

    Examples:
        >>> create("resnet8", in_channels=1, num_classes=10, input_size=8).input_shape
        (1, 8, 8)
    """
    factory = _find(name).factory
    accepted = inspect.signature(factory).parameters
    unknown = sorted(set(arguments) - set(accepted))
    if unknown:
        raise UnknownModelError(
            f"model {name!r} takes no argument {', '.join(unknown)}, expected {', '.join(accepted)}"
        )
    return factory(**arguments)


def arguments_for(name: str, input_shape: tuple[int, ...], num_classes: int) -> dict[str, int]:
    """Find the arguments that fit a network to a data set with classes.

    Args:
        name: A key of `MODELS`.
        input_shape: Of one input, without the batch dimension.
        num_classes: Of the data set.

    Returns:
        For `create`. Whether the values are in the network's range is left to it.

    Raises:
        UnknownModelError: No such name.
        ValueError: The network takes inputs of another kind, or it has no classes.

    Examples:
        >>> arguments_for("ds_cnn", (1, 49, 10), 12)
        {'in_channels': 1, 'height': 49, 'width': 10, 'num_classes': 12}
    """
    network = _find(name)
    arguments = dict(zip(network.input_axes, input_shape, strict=False))
    if tuple(arguments.get(axis) for axis in network.input_axes) != input_shape:
        raise ValueError(f"expected inputs of {' x '.join(network.input_axes)}, found shape {input_shape}")
    if "num_classes" not in inspect.signature(network.factory).parameters:
        raise ValueError("it has no classes, its output is a reconstruction")
    return arguments | {"num_classes": num_classes}


def _find(name: str) -> Network:
    network = MODELS.get(name)
    if network is None:
        raise UnknownModelError(f"unknown model {name!r}, expected one of {', '.join(MODELS)}")
    return network
