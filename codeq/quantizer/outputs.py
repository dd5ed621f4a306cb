"""Run networks next to each other: what each answers, and what of one's outputs is left in another's."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from codeq.graph.autocast import autocast_off
from codeq.graph.eval_mode import eval_mode
from codeq.graph.inputs import call, named_outputs
from codeq.graph.kept_state import kept_state
from codeq.quantizer.power import Power


@torch.no_grad()
@autocast_off()
def float_outputs(network: nn.Module, tensors: tuple[Tensor, ...], names: tuple[str, ...]) -> dict[str, Tensor]:
    """Give the outputs of a network that are floats, by name, in eval mode; the network and the inputs are left alone.

    Args:
        network: Any.
        tensors, names: Its inputs, and by which names it takes them.
    """
    with eval_mode(network), kept_state(network):
        answers = named_outputs(network, call(network, tuple(tensor.clone() for tensor in tensors), names))
    return {name: value for name, value in answers.items() if value.is_floating_point()}


def add_powers(powers: dict[str, Power], wanted: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> None:
    """Add the signal and the noise of every output to `powers`, by its name."""
    for name, value in wanted.items():
        powers.setdefault(name, Power()).add(value, found[name])


def noise(wanted: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> float:
    """Add up the noise of every output over its signal."""
    powers: dict[str, Power] = {}
    add_powers(powers, wanted, found)
    return sum(power.noise / power.signal for power in powers.values() if power.signal)
