"""Train a compressed network on calibration inputs towards the outputs of the float network: no labels, no loop.

    loss = mean over outputs of log(|student - teacher|^2 / |teacher|^2) + the same mean over the results of layers

Weights train on their frozen grids with the straight-through rule (codeq/quantizer), at a rate that is a share of a
step of the grid: what compression has chosen is where they start, and a zero stays a zero, so that budgets hold. Biases
and BatchNorms train too, in eval mode: a channel's factor is the scale of its weights. The epoch that is best on the
held inputs is kept, the start among them: what makes things worse is taken back, and all rates are made smaller. Float
inputs are mixed in pairs, x = a x_i + (1 - a) x_j with a from 1/2 to 1: the teacher answers these too, and few inputs
are learned by heart later. Sources: knowledge distillation, Hinton et al. 2015, arXiv:1503.02531, with the squared
error, so that outputs may be of any shape; results of layers, Romero et al. 2015, "FitNets", arXiv:1412.6550; mixing,
Zhang et al. 2018, "mixup", arXiv:1710.09412.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from codeq.activations.learned_step import QuantizedActivations
from codeq.compress.report import Distilled
from codeq.errors import CompressError
from codeq.graph.autocast import autocast_off
from codeq.graph.eval_mode import eval_mode
from codeq.graph.inputs import call, named_outputs
from codeq.graph.kept_state import kept_state
from codeq.quantizer.attach import QuantizedWeight, quantized_weights
from codeq.quantizer.outputs import add_powers, float_outputs
from codeq.quantizer.power import Power

BATCH_SIZE = 16
WEIGHT_RATE = 0.03
"""Learning rate of a quantized weight, in steps of its grid."""
OTHER_RATE = 3e-3
"""Of biases, BatchNorms and weights that are float, in root mean squares of the tensor."""
ACTIVATION_RATE = 1e-3
"""Of activation quantizers, whose parameters are relative."""
LEAST_SIZE = 0.1
"""Root mean square that a bias of smaller ones is taken to have."""
DECAY = (0.9, 0.99)
SLOWER = 0.3
"""Factor on all rates where an epoch has made things worse: it is taken back. EfficientNet-Lite0 needs a tenth of what
suits a ResNet-20."""
NO_NOISE = 1e-12
"""Of the signal: 120 dB."""


@autocast_off()
def distill(
    student: nn.Module,
    teacher: nn.Module,
    inputs: tuple[Tensor, ...],
    names: tuple[str, ...],
    *,
    held: tuple[Tensor, ...],
    epochs: int,
    features: float = 1.0,
    seed: int = 0,
    on_progress: Callable[[float, str], None] = lambda share, detail: None,
) -> Distilled:
    """Train a network in place.

    Args:
        student: Attached, all quantizers frozen; or wrapped in calibrated `QuantizedActivations`, whose grids train
            too.
        teacher: The float network, of the same modules where features are asked for.
        inputs, names: What it trains on, batch first, and by which names the network takes them.
        held: Inputs that say which epoch is best.
        epochs: Passes over the inputs.
        features: Weight of the results of layers in the loss, next to the outputs' 1. They are not looked at where
            activations are quantized.
        seed: Of the order of inputs.
        on_progress: Called with the share done, 0 to 1, and what is going on.

    Raises:
        CompressError: The network has no output to learn, or the loss is not finite.
    """
    network = student.network if isinstance(student, QuantizedActivations) else student
    weights = {id(weight.original): weight for weight in quantized_weights(network)}.values()
    zeros = [(weight.original, weight.original.detach() == 0) for weight in weights]
    optimizer = torch.optim.Adam(list(_groups(student, weights)), betas=DECAY)
    rates = [group["lr"] for group in optimizer.param_groups]
    steps, pace = epochs * math.ceil(len(inputs[0]) / BATCH_SIZE), 1.0
    generator = torch.Generator().manual_seed(seed)
    trained = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    batches = zip(*(tensor.split(BATCH_SIZE) for tensor in held), strict=True)
    judged = [(batch, float_outputs(teacher, batch, names)) for batch in batches]
    before = best = _decibels(student, judged, names)
    best_epoch, kept = 0, [parameter.detach().clone() for parameter in trained]
    layers = [weight.name.rpartition(".")[0] for weight in weights] if features and network is student else []
    with ExitStack() as stack:
        for part in (student, teacher):
            stack.enter_context(eval_mode(part))
            stack.enter_context(kept_state(part))
        learned = stack.enter_context(_results(network, layers))
        wanted = stack.enter_context(_results(teacher, layers))
        stack.enter_context(_trainable(student, trained))
        done = 0
        for epoch in range(1, epochs + 1):
            for rows in torch.randperm(len(inputs[0]), generator=generator).split(BATCH_SIZE):
                batch = _mixed(tuple(tensor[rows] for tensor in inputs), generator)
                with torch.no_grad():
                    targets = _answers(teacher, batch, names)
                if not all(bool(target.isfinite().all()) for target in targets):
                    raise CompressError("distillation: the float network answers NaN or infinite; give other inputs")
                loss = _distance(targets, _answers(student, batch, names))
                if layers:
                    loss = loss + features * _distance(wanted.values(), [learned[name] for name in wanted])
                if not math.isfinite(float(loss.detach())):
                    raise CompressError("distillation: the loss is not finite; take fewer zeros or more bits")
                optimizer.zero_grad()
                loss.backward()
                for group, rate in zip(optimizer.param_groups, rates, strict=True):
                    group["lr"] = rate * pace * 0.5 * (1 + math.cos(math.pi * done / steps))
                optimizer.step()
                with torch.no_grad():
                    for original, is_zero in zeros:
                        original.masked_fill_(is_zero, 0.0)
                done += 1
                on_progress(done / steps, f"epoch {epoch} of {epochs}, {best:.1f} dB")
            reached = _decibels(student, judged, names)
            if reached > best:
                best, best_epoch = reached, epoch
                kept = [parameter.detach().clone() for parameter in trained]
                continue
            with torch.no_grad():
                for parameter, value in zip(trained, kept, strict=True):
                    parameter.copy_(value)
            optimizer.state.clear()
            pace *= SLOWER
    return Distilled(epochs, best_epoch, before, best)


def _groups(student: nn.Module, weights: Iterable[QuantizedWeight]) -> Iterator[dict[str, Any]]:
    """Parameters with their learning rates."""
    network, quantizers = student, None
    if isinstance(student, QuantizedActivations):
        network, quantizers = student.network, student.quantizers
    seen: set[int] = set()
    for weight in weights:
        grid = weight.quantizer.exact_grid(weight.original)
        scale = weight.quantizer.frozen_scale.mean() if weight.quantizer.per_channel else grid.scale
        seen |= {id(parameter) for parameter in weight.quantizer.parameters()} | {id(weight.original)}
        yield {"params": [weight.original], "lr": WEIGHT_RATE * grid.multiplier * float(scale)}
    for parameter in network.parameters():
        if id(parameter) not in seen and parameter.is_floating_point():
            size = max(LEAST_SIZE, float(parameter.detach().square().mean().sqrt()))
            yield {"params": [parameter], "lr": OTHER_RATE * size}
    if quantizers is not None:
        yield {"params": list(quantizers.parameters()), "lr": ACTIVATION_RATE}


def _mixed(batch: tuple[Tensor, ...], generator: torch.Generator) -> tuple[Tensor, ...]:
    """Mix inputs in pairs; a batch with ids or masks stays as it is."""
    if any(_is_mask(tensor) for tensor in batch):
        return batch
    count = len(batch[0])
    share, partner = 1 - torch.rand(count, generator=generator) / 2, torch.randperm(count, generator=generator)
    mixed = []
    for tensor in batch:
        own = share.to(tensor).reshape(-1, *[1] * (tensor.ndim - 1))
        mixed.append(own * tensor + (1 - own) * tensor[partner])
    return tuple(mixed)


def _is_mask(tensor: Tensor) -> bool:
    """Tell whether a mean of two inputs is none: of whole numbers, of infinities, of zeros and ones alone."""
    if not tensor.is_floating_point() or not bool(tensor.isfinite().all()):
        return True
    return bool(((tensor == 0) | (tensor == 1)).all())


def _answers(network: nn.Module, batch: tuple[Tensor, ...], names: tuple[str, ...]) -> list[Tensor]:
    """The float outputs in their order: a network whose activations are quantized has no names for them."""
    answers = named_outputs(network, call(network, tuple(tensor.clone() for tensor in batch), names))
    return [value for value in answers.values() if value.is_floating_point()]


def _distance(wanted: Iterable[Tensor], found: Iterable[Tensor]) -> Tensor:
    """Mean over tensors of the logarithm of noise over signal; of those that have a signal."""
    parts = []
    for target, value in zip(wanted, found, strict=True):
        signal = target.square().mean()
        if bool(signal > 0):
            parts.append(((value - target).square().mean() / signal + NO_NOISE).log())
    return torch.stack(parts).mean() if parts else torch.zeros((), requires_grad=True)


def _decibels(
    student: nn.Module, judged: Iterable[tuple[tuple[Tensor, ...], Mapping[str, Tensor]]], names: tuple[str, ...]
) -> float:
    """Mean over outputs of the signal to noise on batches whose answers by the float network are known."""
    powers: dict[str, Power] = {}
    for batch, wanted in judged:
        found = float_outputs(student, batch, names)
        add_powers(powers, wanted, dict(zip(wanted, found.values(), strict=True)))
    known = [power.decibels for power in powers.values() if power.signal]
    return sum(known) / len(known) if known else 0.0


@contextmanager
def _results(network: nn.Module, layers: Sequence[str]) -> Iterator[dict[str, Tensor]]:
    """Collect what layers give, by their names."""
    found: dict[str, Tensor] = {}

    def hook(name: str) -> Callable[[nn.Module, Any, Any], None]:
        def keep(module: nn.Module, inputs: Any, output: Any) -> None:
            if isinstance(output, Tensor):
                found[name] = output

        return keep

    handles = [network.get_submodule(name).register_forward_hook(hook(name)) for name in layers]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def _trainable(student: nn.Module, trained: Sequence[Tensor]) -> Iterator[None]:
    """Let what trains have gradients, and nothing else; what had none before has none after."""
    before = {parameter: parameter.requires_grad for parameter in student.parameters()}
    chosen = set(map(id, trained))
    for parameter in before:
        parameter.requires_grad_(id(parameter) in chosen)
    try:
        yield
    finally:
        for parameter, required in before.items():
            parameter.requires_grad_(required)
            parameter.grad = None
