"""Make networks of other tools plain: layers that fake-quantize their weight in `forward`, and activation quantizers.

    torch.ao.nn.qat, torch.ao.nn.intrinsic.qat     a layer with `weight_fake_quant`; a BatchNorm in it is folded as its
                                                   forward pass folds it: weight_fake_quant(weight * gamma / std)
    torchao.quantization.qat                       a layer with `weight_fake_quantizer`
    brevitas.nn                                    a layer with `weight_quant`; QuantReLU, QuantIdentity and their like
    FakeQuantize modules and observers             of activations: in a hook, a stub, a FloatFunctional or a graph

A plain layer has the value that the other's quantizer gives with the scales that it holds. All are known by the names
of their classes and attributes, so that none of these packages is imported.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from codeq.errors import AttachError, first_line

WEIGHT_QUANTIZERS = ("weight_fake_quant", "weight_fake_quantizer")
BREVITAS_WEIGHT = ("weight_quant",)
INPUT_QUANTIZERS = ("activation_fake_quantizer", "input_quant")
OUTPUT_QUANTIZERS = ("activation_post_process", "output_quant", "act_quant")
"""Attributes of layers."""
QUANTIZER_CLASSES = ("FakeQuantizeBase", "FakeQuantizerBase", "ObserverBase", "ActQuantProxyFromInjectorBase")
OUTPUT_HOOK, INPUT_HOOK = "_observer_forward_hook", "_observer_forward_pre_hook"
"""The functions that torch.ao hooks onto a module for the quantizer in it."""
CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
PLAIN_FUNCTIONS: Mapping[str, Callable[[], nn.Module]] = {
    "QuantIdentity": nn.Identity,
    "QuantReLU": nn.ReLU,
    "QuantSigmoid": nn.Sigmoid,
    "QuantTanh": nn.Tanh,
}
"""Brevitas' layers without a weight, by the class's name."""
WITH_RELU = re.compile(r"ReLU(\dd)?$")


@torch.library.custom_op("codeq::mark", mutates_args=())
def mark(x: Tensor, scale: float, zero_point: int) -> Tensor:
    """`mark` gives x itself: in a traced graph it shows where an activation quantizer was, and its grid."""
    return x.clone()


@mark.register_fake
def _(x: Tensor, scale: float, zero_point: int) -> Tensor:
    return torch.empty_like(x)


class Passed(nn.Module):
    """Gives its input, marked where a grid is set."""

    def __init__(self) -> None:
        super().__init__()
        self.grid: tuple[float, int] | None = None

    def forward(self, x: Any) -> Any:
        """Return `x`, or mark it."""
        return x if self.grid is None else torch.ops.codeq.mark(x, *self.grid)


@dataclass(frozen=True, eq=False)
class TakenQuantizer:
    """Points to an activation quantizer of another tool that `make_plain` took out.

    Attributes:
        name: Where it was in the network.
        original: The module.
        passed: What stands in its place.
    """

    name: str
    original: nn.Module
    passed: Passed = field(default_factory=Passed)
    _hooks: list[Any] = field(default_factory=list)

    def hook_onto(self, module: nn.Module, *, before: bool) -> None:
        """Let `passed` see what a module is given, or what it returns."""
        if before:
            hook = module.register_forward_pre_hook(lambda _, inputs: (self.passed(inputs[0]), *inputs[1:]))
        else:
            hook = module.register_forward_hook(lambda _, inputs, output: self.passed(output))
        self._hooks.append(hook)

    def remove(self) -> None:
        """Leave nothing of it in the network but, where its place is a module's, an identity."""
        self.passed.grid = None
        for hook in self._hooks:
            hook.remove()
        self._hooks.clear()


def is_fake_quantized(model: nn.Module) -> bool:
    """Tell whether a network has what `make_plain` replaces."""
    return any(is_quantizer(module) or _has_quantizers(module) for module in model.modules())


@torch.no_grad()
def make_plain(model: nn.Module, *, values: bool = True) -> list[TakenQuantizer]:
    """Replace layers that quantize their weight by plain ones, and take activation quantizers out, in place.

    Args:
        model: The network.
        values: Give plain layers the quantized weight. Without, their values mean nothing: what a file will overwrite.

    Returns:
        The activation quantizers; call `remove` of each when they have been read.

    Raises:
        AttachError: The network itself is such a layer, or one is of a kind that has no plain layer, or cannot compute
            its weight.
    """
    if is_quantizer(model) or _has_quantizers(model):
        raise AttachError(f"the network itself is a {type(model).__name__}; put it into a torch.nn.Sequential")
    taken: list[TakenQuantizer] = []
    _make_plain(model, "", taken, {}, values)
    return taken


def _make_plain(
    parent: nn.Module,
    prefix: str,
    taken: list[TakenQuantizer],
    made: dict[nn.Module, nn.Module | None],
    values: bool,
) -> None:
    for key, child in list(parent._modules.items()):
        if child is None:
            continue
        name = prefix + key
        if child not in made:
            made[child] = child
            if is_quantizer(child):
                made[child] = _take(name, parent, key, child, taken)
            elif _has_quantizers(child):
                made[child] = _plain_layer(name, child, taken, values)
            else:
                _make_plain(child, f"{name}.", taken, made, values)
        if made[child] is None:
            del parent._modules[key]
        else:
            parent._modules[key] = made[child]


def _take(name: str, parent: nn.Module, key: str, child: nn.Module, taken: list[TakenQuantizer]) -> nn.Module | None:
    """Take out one activation quantizer; returns what stands in its place, None where a hook called it."""
    quantizer = TakenQuantizer(name, child)
    taken.append(quantizer)
    hooked = False
    for hooks, wanted, before in (
        (parent._forward_hooks, OUTPUT_HOOK, False),
        (parent._forward_pre_hooks, INPUT_HOOK, True),
    ):
        for number, hook in list(hooks.items()) if key == OUTPUT_QUANTIZERS[0] else []:
            if getattr(hook, "__name__", "") == wanted:
                del hooks[number]
                quantizer.hook_onto(parent, before=before)
                hooked = True
    return None if hooked else quantizer.passed


def _plain_layer(name: str, layer: Any, taken: list[TakenQuantizer], values: bool) -> nn.Module:
    if _weight_quantizer(layer) is None:
        if type(layer).__name__ not in PLAIN_FUNCTIONS:
            raise AttachError(f"{name}: no plain layer is known for a {type(layer).__name__}; replace it by torch.nn's")
        plain = result = PLAIN_FUNCTIONS[type(layer).__name__]()
    else:
        plain = _empty_like(name, layer)
        weight, bias = _folded(layer)
        plain.weight.copy_(_quantized(name, layer, weight) if values else weight)
        plain.weight.requires_grad_(layer.weight.requires_grad)
        if bias is not None:
            plain.bias.copy_(bias)
        result = nn.Sequential(plain, nn.ReLU()) if WITH_RELU.search(type(layer).__name__) else plain
    for keys, before, place in ((INPUT_QUANTIZERS, True, plain), (OUTPUT_QUANTIZERS, False, result)):
        for key in keys:
            found = layer._modules.get(key)
            if found is not None and is_quantizer(found) and getattr(found, "is_quant_enabled", True):
                quantizer = TakenQuantizer(f"{name}.{key}", found)
                quantizer.hook_onto(place, before=before)
                taken.append(quantizer)
    return result.train(layer.training)


def _folded(layer: Any) -> tuple[Tensor, Tensor | None]:
    """The weight that a layer gives its quantizer, and the bias of all that it computes."""
    norm, weight, bias = layer._modules.get("bn"), layer.weight.detach(), getattr(layer, "bias", None)
    if norm is None:
        return weight, bias
    factors = norm.weight / torch.sqrt(norm.running_var + norm.eps)  # float32, as its forward pass has it
    exact = norm.weight.double() / torch.sqrt(norm.running_var.double() + norm.eps)
    shifted = (0.0 if bias is None else bias.double()) - norm.running_mean.double()
    return weight * factors.reshape([-1] + [1] * (weight.ndim - 1)), norm.bias + shifted * exact


def _empty_like(name: str, layer: Any) -> Any:
    """A plain layer of the same shape, without its values."""
    like: dict[str, Any] = {"device": layer.weight.device, "dtype": layer.weight.dtype}
    if isinstance(layer, nn.Embedding):
        options = {key: getattr(layer, key) for key in ("padding_idx", "max_norm", "norm_type")}
        return nn.utils.skip_init(nn.Embedding, layer.num_embeddings, layer.embedding_dim, **options, **like)
    like["bias"] = getattr(layer, "bias", None) is not None or layer._modules.get("bn") is not None
    if isinstance(layer, nn.Linear):
        return nn.utils.skip_init(nn.Linear, layer.in_features, layer.out_features, **like)
    for kind in CONVOLUTIONS:
        if isinstance(layer, kind):
            names = ["in_channels", "out_channels", "kernel_size", "stride", "padding", "dilation", "groups"]
            names += ["padding_mode", "output_padding"] if layer.transposed else ["padding_mode"]
            sizes = {key: getattr(layer, key) for key in names}
            return nn.utils.skip_init(kind, **sizes, **like)
    raise AttachError(f"{name}: no plain layer is known for a {type(layer).__name__}; replace it by one of torch.nn")


def _quantized(name: str, layer: nn.Module, weight: Tensor) -> Tensor:
    quantizer = _weight_quantizer(layer)
    assert quantizer is not None
    quantizer.eval()
    enabled = getattr(quantizer, "observer_enabled", None)
    if isinstance(enabled, Tensor):
        enabled.zero_()  # looking at the weight must not move its scale
    seen = getattr(getattr(quantizer, "activation_post_process", None), "min_val", None)
    if isinstance(seen, Tensor) and not (seen.numel() and bool(seen.isfinite().all())):
        raise AttachError(f"{name}: its weight quantizer has seen no weight; run the network once, or load its state")
    try:
        result = quantizer(weight)
    except (RuntimeError, ValueError, TypeError) as error:
        raise AttachError(f"{name}: its weight quantizer fails ({first_line(error)})") from error
    values: Tensor = getattr(result, "value", result)  # Brevitas returns a record of value, scale and the like
    return values


def _weight_quantizer(module: nn.Module) -> nn.Module | None:
    names = BREVITAS_WEIGHT if _is_of_brevitas(module) else WEIGHT_QUANTIZERS
    return next((module._modules[key] for key in names if module._modules.get(key) is not None), None)


def _has_quantizers(module: nn.Module) -> bool:
    """Whether a module is a layer that quantizes by itself; one that torch.ao hooked a quantizer onto is not."""
    return _weight_quantizer(module) is not None or _is_of_brevitas(module)


def _is_of_brevitas(module: nn.Module) -> bool:
    # A network of somebody's own may well have modules of these names, which work in another way.
    return any(kind.__name__ == "QuantProxyMixin" for kind in type(module).__mro__)


def is_quantizer(module: nn.Module) -> bool:
    """Tell whether a module is a fake quantizer of activations or an observer of another tool, switched on or not."""
    return any(kind.__name__ in QUANTIZER_CLASSES for kind in type(module).__mro__)
