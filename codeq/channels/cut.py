"""Cut a network to the entries of its parameters and buffers that stay, in place."""

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from codeq.quantizer.attach import channel_axis, quantized_weights

Axes = list[Tensor | None]
"""Of each axis the entries that stay; None is all."""
TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)


@torch.no_grad()
def cut(
    model: nn.Module,
    stays: Mapping[str, Axes],
    biases: Mapping[str, Tensor],
    paddings: Mapping[str, tuple[int, int]] = MappingProxyType({}),
) -> None:
    """Cut a network.

    Args:
        model: Attached, its grids frozen, or plain.
        stays: By the tensor's name, as in the state_dict of the plain network.
        biases: What is added to a layer's bias, by the layer's name, float64 `(C,)` before it is cut; the layer has one
            afterwards.
        paddings: Channels in front and behind, by the name of the module that pads with them.
    """
    _cut_quantizers(model, stays)
    owners = {name: (_owner(model, name), stays[name]) for name in stays}
    for layer, added in biases.items():
        module: Any = model.get_submodule(layer)
        bias = module.bias
        old = torch.zeros(len(added), dtype=torch.float64) if bias is None else bias.double()
        module.bias = nn.Parameter((old + added).float(), requires_grad=bias is None or bias.requires_grad)
        name = f"{layer}.bias"
        weight = stays.get(f"{layer}.weight")
        if weight is not None and name not in owners:
            owners[name] = ((module, "bias"), [weight[channel_axis(module)]])
    done: set[int] = set()
    for (module, attribute), axes in owners.values():
        tensor = getattr(module, attribute)
        if id(tensor) in done:
            continue
        new = _sliced(tensor, axes)
        done.add(id(new))
        for place, key in list(_places(model, tensor)):
            setattr(place, key, new)
    for module in model.modules():
        _resize(module)
    for name, channels in paddings.items():
        padding: Any = model.get_submodule(name)
        padding.padding = (*padding.padding[:-2], *channels)


def _cut_quantizers(model: nn.Module, stays: Mapping[str, Axes]) -> None:
    """Cut what quantizers hold of channels: scales of outputs, and which inputs live."""
    done: set[int] = set()
    for weight in quantized_weights(model):
        quantizer = weight.quantizer
        if id(quantizer) in done or weight.name not in stays:
            continue
        done.add(id(quantizer))
        mask, reads = stays[weight.name][quantizer.axis], stays[weight.name][1 - quantizer.axis]
        if quantizer.per_channel and mask is not None:
            quantizer.frozen_scale = quantizer.frozen_scale[mask.to(quantizer.frozen_scale.device)].clone()
        if quantizer.channels and reads is not None:
            quantizer.live = quantizer.live[reads.to(quantizer.live.device)].clone()


def _sliced(tensor: Tensor, axes: Axes) -> Tensor:
    value = tensor.detach()
    for axis, mask in enumerate(axes):
        if mask is not None and not bool(mask.all()):
            value = value.index_select(axis, mask.nonzero().reshape(-1).to(value.device))
    return nn.Parameter(value.clone(), tensor.requires_grad) if isinstance(tensor, nn.Parameter) else value.clone()


def _owner(model: nn.Module, name: str) -> tuple[nn.Module, str]:
    layer, _, tensor = name.rpartition(".")
    module = model.get_submodule(layer)
    if parametrize.is_parametrized(module, tensor):
        return module.parametrizations[tensor], "original"  # type: ignore[index,return-value]
    return module, tensor


def _places(model: nn.Module, tensor: Tensor) -> Iterator[tuple[nn.Module, str]]:
    """Find everything that holds a tensor, by identity."""
    for module in model.modules():
        for key, value in (*module._parameters.items(), *module._buffers.items()):
            if value is tensor:
                yield module, key


def _resize(module: nn.Module) -> None:
    """Let what a module says of its sizes be what its tensors are."""
    if parametrize.is_parametrized(module, "weight"):
        chain: Any = module.parametrizations["weight"]  # type: ignore[index]
        weight: Any = chain.original
    else:
        weight = getattr(module, "weight", None)
    if isinstance(module, nn.modules.conv._ConvNd):
        if isinstance(module, TRANSPOSED):
            if module.groups == 1:
                module.in_channels, module.out_channels = weight.shape[:2]
            return
        each = module.out_channels // module.groups
        module.out_channels = weight.shape[0]
        if module.groups > 1:
            module.groups = module.out_channels // each
        module.in_channels = weight.shape[1] * module.groups
    elif isinstance(module, nn.Linear):
        module.out_features, module.in_features = weight.shape
    elif isinstance(module, nn.modules.batchnorm._BatchNorm):
        known = weight if weight is not None else module.running_mean
        if known is not None:
            module.num_features = len(known)
    elif isinstance(module, nn.Embedding):
        module.num_embeddings, module.embedding_dim = weight.shape
