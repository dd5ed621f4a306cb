"""Tensors that PyTorch computes anew in every forward pass are found here, and made plain parameters again.

    torch.nn.utils.prune, weight_norm, spectral_norm     a hook sets the tensor before each call
    torch.nn.utils.parametrizations, parametrize         a property computes it

A quantizer needs the parameter itself, and a hook's tensor cannot even be copied, so such layers are baked first.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn.utils import parametrize, prune, remove_spectral_norm, remove_weight_norm
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm

from codeq.quantizer.dead_zone import DeadZoneQuantizer


@dataclass(frozen=True, eq=False)
class Reparametrized:
    """Points to one tensor that is computed from others.

    Attributes:
        layer, tensor_name: Where it is; the root layer has no name.
        module: The layer.
        maker: What computes it, e.g. "torch.nn.utils.prune".
        removal: The call that makes it a parameter, by PyTorch's name.
        copies: Whether the layer can be copied as it is.
        is_parametrization: A property computes it; else a hook does.
        remove: Makes it a parameter, of the value that it has in eval mode.
    """

    layer: str
    module: nn.Module
    tensor_name: str
    maker: str
    removal: str
    copies: bool
    is_parametrization: bool
    remove: Callable[[nn.Module, str], object]

    @property
    def name(self) -> str:
        """Return the tensor's name in the network: `layer1.conv1.weight`."""
        return f"{self.layer}.{self.tensor_name}" if self.layer else self.tensor_name

    @property
    def way_out(self) -> str:
        """Say what it is, and which call ends it."""
        where = f"model.get_submodule({self.layer!r})" if self.layer else "model"
        return f"{self.name} is computed by {self.maker}: call {self.removal}({where}, {self.tensor_name!r}) first"


def reparametrized(model: nn.Module) -> Iterator[Reparametrized]:
    """Yield every tensor that is computed in each forward pass, but those of quantizers, in the network's order."""
    for layer, module in model.named_modules():
        for hook in module._forward_pre_hooks.values():
            for kind, (attribute, maker, removal, copies, remove) in HOOKS.items():
                if isinstance(hook, kind):
                    yield Reparametrized(layer, module, getattr(hook, attribute), maker, removal, copies, False, remove)
        if parametrize.is_parametrized(module):
            for tensor_name, makers in module.parametrizations.items():
                if not any(isinstance(maker, DeadZoneQuantizer) for maker in makers):
                    kinds = " and ".join(type(maker).__name__.removeprefix("_") for maker in makers)
                    removal = "torch.nn.utils.parametrize.remove_parametrizations"
                    maker = f"a parametrization ({kinds})"
                    yield Reparametrized(
                        layer, module, tensor_name, maker, removal, True, True, remove_parametrizations
                    )


@torch.no_grad()
def bake(model: nn.Module) -> tuple[str, ...]:
    """Make all of them parameters, in place, of the value that each has in eval mode.

    Returns:
        Which they were and what computed them, e.g. "0.weight (torch.nn.utils.prune)".
    """
    baked = []
    for item in list(reparametrized(model)):
        training = item.module.training
        item.module.eval()  # in training a spectral norm moves on with each look at it
        of_parameters = item.is_parametrization and _is_of_parameters(item)
        item.remove(item.module, item.tensor_name)
        buffer = item.module._buffers.pop(item.tensor_name, None) if of_parameters else None
        if buffer is not None:  # what torch makes of several originals
            item.module.register_parameter(item.tensor_name, nn.Parameter(buffer))
        item.module.train(training)
        baked.append(f"{item.name} ({item.maker})")
    return tuple(baked)


def _is_of_parameters(item: Reparametrized) -> bool:
    return any(True for _ in item.module.parametrizations[item.tensor_name].parameters(recurse=False))  # type: ignore[index,union-attr]


def remove_parametrizations(module: nn.Module, tensor_name: str, *, leave_parametrized: bool = True) -> None:
    """Take a tensor's parametrizations off, in place, without touching copies of the layer."""
    # torch makes a class per parametrized module and removes the tensor's property from that class, but deepcopy shares
    # the class between copies: without a class of its own here, the copy's (or the original's) weight would vanish.
    kind = type(module)
    module.__class__ = type(kind.__name__, kind.__bases__, dict(kind.__dict__))
    parametrize.remove_parametrizations(module, tensor_name, leave_parametrized=leave_parametrized)


HOOKS: dict[type, tuple[str, str, str, bool, Callable[[nn.Module, str], object]]] = {
    prune.BasePruningMethod: (
        "_tensor_name",
        "torch.nn.utils.prune",
        "torch.nn.utils.prune.remove",
        False,
        prune.remove,
    ),
    WeightNorm: (
        "name",
        "torch.nn.utils.weight_norm",
        "torch.nn.utils.remove_weight_norm",
        False,
        remove_weight_norm,
    ),
    SpectralNorm: (
        "name",
        "torch.nn.utils.spectral_norm",
        "torch.nn.utils.remove_spectral_norm",
        True,
        remove_spectral_norm,
    ),
}
"""Each hook has an entry: where it says which tensor it sets, its name, the removing call's, whether its layer can be
copied, and the call itself."""
