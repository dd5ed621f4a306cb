"""This module makes networks as training leaves them, without training: with codes, zeros and BatchNorms of the shares
and sizes that training gives.

Everything is drawn from seeded generators, so that a network is the same on every machine and in every run.

    sample_network   an attached network whose dead zones are open: for measurements that no value changes
    draw_codes       levels of a given share of zeros, with the magnitudes that training gave
    zoo_network      both, and embeddings and BatchNorms as training leaves them: for files that are held to PyTorch
    wide_network     as many parameters as one asks for
"""

import math
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

import codeq
import models
from codeq.quantizer.attach import quantized_weights
from export.options import CALIBRATION_VALUES

SEED = 0
BITS = 4
OPEN_DEAD_ZONE = 0.55
"""A theta_dz at which about four fifths of normally distributed weights are zeros."""
WARM_UP_INPUTS, WARM_UP_STEPS = 8, 3
LEVEL_COUNTS = (0.3155, 0.1838, 0.1364, 0.0994, 0.0729, 0.0504, 0.1415)
"""Shares of the magnitudes 1 to 7 among the non-zeros of docs/results/2026-11-22-fashion-mnist-resnet20: 4 bits, 5
epochs, 91 % zeros, all 20 weights together. The last one holds what saturates."""
ZOO_ZEROS = 0.8
FEW_INPUTS, ZEROS_OF_FEW = 64, 0.5
"""A weight with fewer inputs to a channel keeps more of them, as in training: of nine weights of a depthwise channel
all are zeros in one channel of seven at 80 %, in one of 500 at 50 %."""
NORM_BATCHES, NORM_BATCH_SIZE = 4, 8
"""Random inputs that BatchNorm takes its statistics from."""
NORM_SHIFT = 1.0
"""How far BatchNorms shift their output, in its deviations: most of each relu is open. A relu at 0 passes half of the
square of a difference and 0.34 of the variance, which the next BatchNorm restores: a random network would amplify
differences by 1.2 per layer, until float32 sums in another order differ by more than the contract's 1e-5 within PyTorch
alone. Trained networks do not; with this shift, random ones do so by 1.06."""
WIDTH = 2048
"""Inputs and outputs of each layer of `wide_network`."""


def sample_network(name: str, **arguments: Any) -> tuple[nn.Module, Tensor]:
    """Build a network at 4 bits with random weights, about four fifths of them zeros, and inputs to calibrate it with.

    Args:
        name: Of the registry.
        **arguments: Of its factory; none gives its published size.

    Returns:
        The network, frozen and in eval mode, and up to 128 inputs.
    """
    generator = torch.Generator().manual_seed(SEED)
    torch.manual_seed(SEED)
    model = models.create(name, **arguments)
    codeq.attach(model, bits=BITS)
    shape = model.input_shape
    count = max(WARM_UP_INPUTS, min(128, CALIBRATION_VALUES // math.prod(shape)))  # type: ignore[arg-type]
    inputs = torch.randn(count, *shape, generator=generator)  # type: ignore[misc]
    open_dead_zones(model, OPEN_DEAD_ZONE)
    with torch.no_grad():
        model.train()
        for _ in range(WARM_UP_STEPS):
            model(inputs[:WARM_UP_INPUTS])
    codeq.freeze(model)
    return model.eval(), inputs


def zoo_network(name: str, arguments: Mapping[str, Any] | None = None) -> tuple[nn.Module, Tensor]:
    """Build a network whose values are of the sizes that training gives, and inputs to calibrate it with.

    Args:
        name: Of the registry.
        arguments: Of its factory; none gives its published size.
    """
    model, inputs = sample_network(name, **(arguments or {}))
    draw_codes(model, share_zeros(model))
    grow_embeddings(model)
    settle_batch_norm(model, inputs)
    return model, inputs


def wide_network(parameters: int) -> tuple[nn.Module, Tensor]:
    """Build linear layers of WIDTH x WIDTH at 4 bits, about four fifths of their weights zeros, and two inputs.

    Args:
        parameters: About how many; at least one layer's.
    """
    torch.manual_seed(SEED)
    layers: list[nn.Module] = []
    for _ in range(max(1, round(parameters / WIDTH**2))):
        layers += [nn.Linear(WIDTH, WIDTH), nn.ReLU()]
    model = nn.Sequential(*layers)
    codeq.attach(model, bits=BITS)
    inputs = torch.randn(2, WIDTH)
    open_dead_zones(model, OPEN_DEAD_ZONE)
    codeq.freeze(model)
    return model.eval(), inputs


@torch.no_grad()
def open_dead_zones(model: nn.Module, theta: float) -> None:
    """Set theta_dz of every quantizer: at the 3 that it starts from, nothing would be zero."""
    for weight in quantized_weights(model):
        weight.quantizer.theta_dz.fill_(theta)


@torch.no_grad()
def draw_codes(model: nn.Module, zeros: float | Mapping[str, float]) -> None:
    """Give every quantized weight of a frozen network levels drawn at random, in place.

    Args:
        model: From `sample_network`; at 4 bits, where there are seven magnitudes.
        zeros: Share of zeros, the same for every weight or by the weight's name.
    """
    generator = torch.Generator().manual_seed(SEED)
    shares = torch.tensor(LEVEL_COUNTS)
    for weight in quantized_weights(model):
        count = weight.original.numel()
        encoding = weight.quantizer.encode(weight.original)
        level = 1 + torch.multinomial(shares[: encoding.quant_max], count, replacement=True, generator=generator)
        codes = encoding.multiplier * level + encoding.offset
        codes = codes * (2 * torch.randint(2, (count,), generator=generator) - 1)
        share = zeros[weight.name] if isinstance(zeros, Mapping) else zeros
        codes = codes * (torch.rand(count, generator=generator) >= share)
        weight.original.copy_((codes.float() * encoding.scale).reshape(weight.original.shape))


def share_zeros(model: nn.Module) -> dict[str, float]:
    """Spread ZOO_ZEROS over the quantized weights, by name: fewer zeros where channels are small."""
    shapes = {weight.name: weight.original.shape for weight in quantized_weights(model)}
    few = {name for name, shape in shapes.items() if shape[1:].numel() < FEW_INPUTS}
    numel, of_few = (sum(shapes[name].numel() for name in names) for names in (shapes, few))
    others = (ZOO_ZEROS * numel - ZEROS_OF_FEW * of_few) / max(numel - of_few, 1)
    return {name: ZEROS_OF_FEW if name in few else others for name in shapes}


@torch.no_grad()
def grow_embeddings(model: nn.Module) -> None:
    """Give a class token and positions, which start at a standard deviation of 0.02, that of the tokens beside them.

    One step of the uint8 grid that they share with those tokens would else be as large as they are.
    """
    for name, parameter in model.named_parameters():
        if name in ("cls_token", "pos_embed"):
            parameter.div_(parameter.std())


@torch.no_grad()
def settle_batch_norm(model: nn.Module, inputs: Tensor) -> None:
    """Give BatchNorms scales and shifts as training leaves them, and the statistics of a few inputs."""
    norms = batch_norms(model)
    momenta = [norm.momentum for norm in norms]
    draw_batch_norm(norms, torch.Generator().manual_seed(SEED), NORM_SHIFT)
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the plain mean over batches
    model.train()
    if norms:
        for batch in inputs.split(NORM_BATCH_SIZE)[:NORM_BATCHES]:
            model(batch)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    model.eval()


@torch.no_grad()
def draw_batch_norm(norms: Iterable[nn.modules.batchnorm._BatchNorm], generator: torch.Generator, shift: float) -> None:
    """Draw the scales and shifts of BatchNorms, one negative scale each.

    Args:
        norms: Changed in place.
        generator: Draws a norm's scales, then its shifts.
        shift: The mean of the shifts.
    """
    for norm in norms:
        norm.weight.copy_(0.9 + 0.3 * torch.randn(norm.num_features, generator=generator))
        norm.weight[0] = -norm.weight[0].abs()
        norm.bias.copy_(shift + 0.2 * torch.randn(norm.num_features, generator=generator))


def batch_norms(model: nn.Module) -> list[nn.modules.batchnorm._BatchNorm]:
    """List the BatchNorms of a network, in its order."""
    return [module for module in model.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
