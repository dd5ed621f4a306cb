"""Build the network that a run trains: by registry name or by the user's factory, with its weights and quantizers."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

import models
from codeq.checkpoint import Checkpoint
from codeq.data import Dataset
from codeq.errors import CheckpointError, DataError, first_line
from codeq.quantizer.attach import AttachReport, attach, describe, quantized_weights
from codeq.training.init_weights import load_init
from codeq.training.recipe import TrainConfig

MEASURED = 25
"""Held inputs that what the quantizers leave before training is measured on: one batch, in passing."""


class BuiltNetwork(NamedTuple):
    """Holds a network ready to train.

    Attributes:
        model: The network, attached unless it is a float twin.
        arguments: What its factory was called with, for the checkpoint.
        attached: What was quantized, and what that leaves; None for a float twin, and where the network comes from a
            checkpoint.
    """

    model: nn.Module
    arguments: dict[str, Any]
    attached: AttachReport | None


def build_network(
    config: TrainConfig,
    data: Dataset,
    inputs: Tensor,
    *,
    factory: Callable[[], nn.Module] | None = None,
    resume: Checkpoint | None = None,
) -> BuiltNetwork:
    """Build the network of a run, or take that of an unfinished one.

    Args:
        config: The run.
        data: What it trains on; its inputs and classes choose the arguments of a registry network.
        inputs: Held inputs of the data, float32 `(N, *input_shape)`: a network of the user's is tried on two, and what
            its quantizers leave is measured on MEASURED.
        factory: Builds the network where `config.model` is not a registry name.
        resume: The checkpoint whose network goes on training.

    Raises:
        DataError: The network does not fit the data.
        CheckpointError: `resume` is for other inputs, or the file of `config.init` does not fit.
    """
    arguments: dict[str, Any] = dict(config.model_args or {})
    if not config.is_foreign:
        with _fitting(config):
            arguments = models.arguments_for(config.model, data.input_shape, data.num_classes)
    if resume is not None:
        taken = resume.only_input_shape("codeq.train trains networks of one; train it in a loop of your own")
        if taken != data.input_shape:
            raise CheckpointError(f"{resume.path}: is for inputs {taken}, {config.data} has {data.input_shape}")
        return BuiltNetwork(resume.model, arguments, None)
    if config.is_foreign:
        model = _build_foreign(config, data, inputs, factory)
    else:
        with _fitting(config):
            model = models.create(config.model, **arguments)
    if config.init is not None:
        load_init(model, Path(config.init))
    return BuiltNetwork(model, arguments, None if config.is_float else _attach(model, config, inputs[:MEASURED]))


@contextmanager
def _fitting(config: TrainConfig) -> Iterator[None]:
    try:
        yield
    except ValueError as error:
        raise DataError(f"{config.data} does not fit {config.model}: {error}") from error


def _build_foreign(
    config: TrainConfig, data: Dataset, inputs: Tensor, factory: Callable[[], nn.Module] | None
) -> nn.Module:
    """Call the user's factory, and return the network once it has answered two inputs with logits."""
    name = f"--model {config.model}"
    if factory is None:
        raise DataError(f"{name}: is not in the registry; give its factory to Trainer")
    model = factory()
    tried, expected = inputs[:2], (min(2, len(inputs)), data.num_classes)
    try:
        with torch.no_grad():
            logits = model.eval()(tried)
    except Exception as error:  # it is not our code
        raise DataError(f"{name}: does not take {config.data}'s {tuple(tried.shape)} ({first_line(error)})") from error
    found = f"shape {tuple(logits.shape)}" if isinstance(logits, Tensor) else f"a {type(logits).__name__}"
    if found != f"shape {expected}":
        raise DataError(f"{name}: answers {found} to {config.data}, expected logits of shape {expected}")
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise DataError(f"{name}: has no parameter that trains; leave requires_grad on in the factory")
    tensors = (*model.named_parameters(), *model.named_buffers())  # a state_dict may hold other things
    broken = next((n for n, tensor in tensors if not bool(tensor.isfinite().all())), None)
    if broken is not None:
        raise DataError(f"{name}: {broken} has NaN or infinite entries")
    return model.train()


def _attach(model: nn.Module, config: TrainConfig, inputs: Tensor) -> AttachReport:
    names = ("grid", "grid_limit", "theta_gradient", "granularity")
    attach(model, config.bits, channels=config.channels is not None, **{name: getattr(config, name) for name in names})
    if config.theta_init is not None:
        for weight in quantized_weights(model):
            nn.init.constant_(weight.quantizer.theta_dz, config.theta_init)
    return describe(model, inputs)
