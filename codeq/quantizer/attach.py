"""Choose layers, attach quantizers to them, read integer codes from them, and take the quantizers off again.

Layers are chosen by type, never by "has a weight", so that norms and embeddings stay as they are.
"""

import logging
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from codeq.data.collect import CalibrationInputs, collect_calibration
from codeq.errors import AttachError
from codeq.graph.inputs import split_inputs
from codeq.quantizer.dead_zone import DeadZoneQuantizer
from codeq.quantizer.grid import WeightEncoding
from codeq.quantizer.power import GOOD_DB, decibels_text
from codeq.quantizer.reparametrized import bake as bake_in
from codeq.quantizer.reparametrized import remove_parametrizations, reparametrized
from codeq.quantizer.signal import measure_network, weight_decibels
from codeq.toolkit.patterns import matches
from codeq.toolkit.table import fold_line, format_count, render_table

logger = logging.getLogger(__name__)

WEIGHTS_BY_TYPE: Mapping[type[nn.Module], tuple[str, ...]] = {
    nn.Conv1d: ("weight",),
    nn.Conv2d: ("weight",),
    nn.Conv3d: ("weight",),
    nn.ConvTranspose1d: ("weight",),
    nn.ConvTranspose2d: ("weight",),
    nn.ConvTranspose3d: ("weight",),
    nn.Linear: ("weight",),
    nn.MultiheadAttention: ("in_proj_weight", "q_proj_weight", "k_proj_weight", "v_proj_weight"),
}
"""Which parameters of which layers are quantized. Grouped and depthwise convolutions are convolutions."""
RECURRENT = (nn.RNNBase, nn.RNNCellBase)
"""Layers that stay float, RNN, LSTM, GRU and their cells: they cost as much as others, so nobody may overlook them."""


@dataclass(frozen=True)
class AttachRow:
    """Says what was decided about one weight, and what its quantizer leaves of it.

    Attributes:
        name, layer_type, shape: The weight's.
        quantized: Whether it is.
        bits, grid: Its quantizer's; None bits are learned.
        reason: Why it stays float; empty for a quantized weight.
        weight_decibels: Signal to noise of its codes against the float weight; None where it has no codes.
        result_decibels: Signal to noise of what its layer computes, with all that comes before it quantized too; None
            without inputs, and where the layer is not called by itself.
    """

    name: str
    layer_type: str
    shape: tuple[int, ...]
    quantized: bool
    bits: int | None = None
    grid: str = ""
    reason: str = ""
    weight_decibels: float | None = None
    result_decibels: float | None = None


@dataclass(frozen=True)
class AttachReport:
    """Reports what `attach` did, one row per weight of two or more dimensions. `print(report)` shows a table.

    Attributes:
        rows: In the network's order.
        baked: Tensors that were computed in every forward pass and are parameters now, with what computed them.
        inputs: How many the network was measured on; 0 for none.
        output_decibels: Signal to noise of every output against the float network; empty without inputs.
    """

    rows: tuple[AttachRow, ...]
    baked: tuple[str, ...] = ()
    inputs: int = 0
    output_decibels: tuple[float, ...] = ()

    @property
    def quantized(self) -> tuple[str, ...]:
        """Return the names of the quantized weights, in the network's order."""
        return tuple(row.name for row in self.rows if row.quantized)

    @property
    def skipped(self) -> dict[str, str]:
        """Return the names of the weights left in float, with the reason."""
        return {row.name: row.reason for row in self.rows if not row.quantized}

    @property
    def signal_text(self) -> str:
        """Say what the quantizers leave of the outputs, which nobody has trained yet; empty without inputs."""
        if not self.inputs:
            return ""
        left = ", ".join(map(decibels_text, self.output_decibels))
        return f"untrained, outputs keep {left} of the float network's signal, on {format_count(self.inputs, 'input')}"

    def to_dict(self) -> dict[str, Any]:
        """Give everything to machines, with plain types."""
        return asdict(self)

    def __str__(self) -> str:
        cells = [
            (
                row.name,
                row.layer_type,
                "x".join(map(str, row.shape)),
                (str(row.bits) if row.bits else "learned") if row.quantized else "float",
                *(
                    "" if decibels is None else decibels_text(decibels)
                    for decibels in (row.weight_decibels, *([row.result_decibels] if self.inputs else []))
                ),
                row.grid if row.quantized else row.reason,
            )
            for row in self.rows
        ]
        header = ("weight", "layer", "shape", "bits", "itself", *(["result"] if self.inputs else []), "grid")
        compared = "itself: signal to noise of the weight against the float one"
        lines = [
            render_table(header, cells),
            fold_line(f"{compared}{'; result: of its layer' if self.inputs else ''}", 2),
            *(fold_line(f"baked in: {item}", 2) for item in self.baked),
        ]
        if self.inputs:
            lines.append(fold_line(self.signal_text, 2))
        if min(self.output_decibels, default=GOOD_DB) < GOOD_DB:
            way_out = "train it, or choose codes without training: codeq.compress, python -m codeq.compress"
            lines.append(fold_line(f"that is too little to export; {way_out}", 2))
        return "\n".join(lines)


def attach(
    model: nn.Module,
    bits: int | None = 4,
    *,
    max_bits: int = 8,
    grid: str = "integer",
    grid_limit: int = 127,
    theta_gradient: str = "sum",
    granularity: str = "tensor",
    channels: bool = False,
    include: str | Iterable[str] | None = None,
    exclude: str | Iterable[str] = (),
    overrides: Mapping[str, Mapping[str, Any]] | None = None,
    bake: bool = False,
    inputs: CalibrationInputs | None = None,
) -> AttachReport:
    """Put a `DeadZoneQuantizer` on every convolution and linear layer of a network, in place.

    A pattern names layers or weights: exactly (`layer1.0.conv1`), as a glob (`layer1.*`), or, behind `re:`, as a
    regular expression that must match the whole name (`re:layer[12]\\..*`).

    A layer whose weight is computed in every forward pass (`torch.nn.utils.prune`, `weight_norm`, `spectral_norm`, the
    parametrizations) has no parameter to quantize: `bake` makes it one of the same value. What was pruned is zero as
    training begins, and no mask holds it any more.

    Recurrent layers stay float. A warning names those that neither `exclude` names nor `include` leaves out.

    Args:
        model: Any network. Parameters shared by several layers share one quantizer.
        bits, max_bits, grid, grid_limit, theta_gradient, granularity: As for `DeadZoneQuantizer`.
        channels: Let whole channels die too, of what convolutions and linear layers read: `ChannelController` says
            which. Convolutions in groups do not read channels of others, and MultiheadAttention keeps all.
        include: Only layers that match one of these. None means all.
        exclude: Layers that stay float; recurrent ones may be named too.
        overrides: Pattern to quantizer arguments, e.g. `{"fc": {"bits": 8}}`. Of several matches the later wins.
        bake: Make all tensors that are computed in every forward pass parameters first, in place.
        inputs: Some inputs as the network will get them: the report then says what the quantizers leave of each layer's
            result and of the outputs. A tensor, an array, a tuple or a mapping of several, a DataLoader or any iterable
            of batches. Before training little may be left: that is where it begins.

    Returns:
        The table of what was and was not quantized, and why, of what was baked in, and of what is left of each weight.

    Raises:
        CalibrationError: The inputs do not fit the network, which is then as it was but for what was baked in.
        AttachError: A pattern matches nothing that can be quantized, an override has an unknown argument, the network
            has no layer to quantize, has quantizers already, or a weight that a hook computes (without `bake`).
        ValueError: A quantizer argument is out of range.

    Examples:
        >>> model = nn.Sequential(nn.Linear(8, 8), nn.LayerNorm(8), nn.Linear(8, 2))
        >>> attach(model, bits=4, overrides={"2": {"bits": 8}}).quantized
        ('0.weight', '2.weight')
    """
    if any(True for _ in quantized_weights(model)):
        raise AttachError("the network has quantizers already; call detach(model) first")
    baked = bake_in(model) if bake else ()
    _refuse_hooks(model)
    candidates = {name: (module, tensor_name) for name, module, tensor_name in quantizable_weights(model)}
    if not candidates:
        raise AttachError(f"{type(model).__name__} has no layer to quantize; types are {_type_names()}")
    included = None if include is None else select_weights(model, candidates, include, "include")
    recurrent = {name: (module, tensor) for name, module, tensor in recurrent_weights(model)}
    excluded = select_weights(model, candidates, exclude, "exclude", also=recurrent)
    defaults = {"bits": bits, "max_bits": max_bits, "grid": grid, "grid_limit": grid_limit}
    defaults |= {"theta_gradient": theta_gradient, "granularity": granularity}
    configs = {name: dict(defaults) for name in candidates}
    for pattern, changes in (overrides or {}).items():
        unknown = sorted(set(changes) - set(defaults))
        if unknown:
            raise AttachError(f"override {pattern!r} has {', '.join(unknown)}, expected {', '.join(defaults)}")
        for name in select_weights(model, candidates, [pattern], "overrides"):
            configs[name].update(changes)

    reasons = dict.fromkeys(excluded, "excluded")
    chosen = []
    for name in candidates:
        if name in excluded:
            continue
        if included is not None and name not in included:
            reasons[name] = "not included"
        else:
            chosen.append(name)
    if not chosen:
        raise AttachError("include and exclude leave no layer to quantize")
    left = {
        name.rpartition(".")[0] or type(model).__name__: type(module).__name__
        for name, (module, _) in recurrent.items()
        if name not in excluded and included is None
    }
    if left:
        layers = _shorten([f"{name}: {kind}" for name, kind in left.items()])
        logger.warning("%s weights stay float; CoDeQ quantizes Conv, Linear and MultiheadAttention", layers)
    for name in chosen:
        module = candidates[name][0]
        configs[name]["axis"] = channel_axis(module)
        configs[name]["channels"] = channels and leaves_inputs_out(module)
    attach_each(model, {name: configs[name] for name in chosen})
    try:
        return _describe(model, reasons, baked, inputs)
    except BaseException:
        remove_quantizers(model)
        raise


def attach_each(model: nn.Module, configs: Mapping[str, Mapping[str, Any]]) -> None:
    """Attach one quantizer per named weight, with its own arguments: what a checkpoint's header asks for.

    Raises:
        AttachError: A name that is no quantizable weight of this network, or one shared parameter with two sets of
            arguments. The network is then as it was.
        ValueError: A quantizer argument is out of range.
    """
    candidates = {name: (module, tensor_name) for name, module, tensor_name in quantizable_weights(model)}
    unknown = [name for name in configs if name not in candidates]
    if unknown:
        computed = [item.way_out for item in reparametrized(model) if item.name in unknown]
        why = f"; {computed[0]}" if computed else ""
        raise AttachError(f"no quantizable weight {', '.join(unknown[:3])} in {type(model).__name__}{why}")
    # All quantizers first: a bad argument must not leave the network half attached.
    quantizers: dict[int, tuple[str, DeadZoneQuantizer]] = {}
    for name, config in configs.items():
        module, tensor_name = candidates[name]
        parameter = getattr(module, tensor_name)
        wanted = DeadZoneQuantizer(**config)
        first, quantizer = quantizers.setdefault(id(parameter), (name, wanted))
        if quantizer.config() != wanted.config():
            raise AttachError(f"{first} and {name} are one parameter, and cannot be quantized in two ways")
        quantizer.expect(parameter)
        quantizer.to(parameter.device)
    for name in configs:
        module, tensor_name = candidates[name]
        _, quantizer = quantizers[id(getattr(module, tensor_name))]
        quantizer.train(module.training)
        # unsafe skips a trial forward, which would sort the whole weight; shape and dtype are kept by construction.
        parametrize.register_parametrization(module, tensor_name, quantizer, unsafe=True)


def describe(model: nn.Module, inputs: CalibrationInputs | None = None) -> AttachReport:
    """Say which weights of an attached network are quantized, and which are not, and what is left of them.

    Args:
        model: Attached.
        inputs: As for `attach`.

    Raises:
        CalibrationError: The inputs do not fit the network.
    """
    return _describe(model, {}, (), inputs)


@dataclass(frozen=True, eq=False)
class QuantizedWeight:
    """Points to one attached weight: where it lives and what quantizes it."""

    name: str
    module: nn.Module
    tensor_name: str
    quantizer: DeadZoneQuantizer

    @property
    def original(self) -> Tensor:
        """Return the trained float weight behind the quantizer, a Parameter."""
        parameter: Tensor = self.module.parametrizations[self.tensor_name].original  # type: ignore[union-attr,index]
        return parameter


def quantized_weights(model: nn.Module) -> Iterator[QuantizedWeight]:
    """Yield every weight with a quantizer, in the network's order; a shared weight appears once per layer."""
    for layer, module in model.named_modules():
        if not parametrize.is_parametrized(module):
            continue
        for tensor_name, parametrizations in module.parametrizations.items():
            for parametrization in parametrizations:
                if isinstance(parametrization, DeadZoneQuantizer):
                    yield QuantizedWeight(weight_name(layer, tensor_name), module, tensor_name, parametrization)


def quantized_layers(model: nn.Module) -> dict[str, tuple[nn.Module, DeadZoneQuantizer]]:
    """Give every quantized weight's layer and quantizer, by the weight's name: what `measure_network` looks at."""
    return {weight.name: (weight.module, weight.quantizer) for weight in quantized_weights(model)}


def encode(model: nn.Module) -> dict[str, WeightEncoding]:
    """Encode every quantized weight as integer codes: the only thing export reads of them.

    Returns:
        Weight name (`layer1.0.conv1.weight`) to encoding, in the network's order.

    Raises:
        ValueError: A weight has NaN or infinite entries; the message names it.
    """
    encodings = {}
    for weight in quantized_weights(model):
        try:
            encodings[weight.name] = weight.quantizer.encode(weight.original)
        except (ValueError, TypeError) as error:
            raise type(error)(f"{weight.name}: {error}") from error
    return encodings


def freeze(model: nn.Module) -> None:
    """Fix every grid as it is now; weights go on training on it. Do this for the last part of training.

    Logs a warning that names the weights whose dead zone the collapse guard is holding.
    """
    for weight in quantized_weights(model):
        if not bool(weight.quantizer.frozen):
            weight.quantizer.freeze(weight.original)
    held = collapsed(model)
    if held:
        logger.warning("the collapse guard holds the dead zone of %s", _shorten(held, 2))


def enable(model: nn.Module, enabled: bool = True) -> None:
    """Switch all quantizers on or off; off, the network computes with its float weights."""
    for weight in quantized_weights(model):
        weight.quantizer.enabled = enabled


def collapsed(model: nn.Module) -> list[str]:
    """Name the weights whose dead zone the collapse guard is holding (|theta_dz| below 0.25)."""
    return [weight.name for weight in quantized_weights(model) if weight.quantizer.collapsed()]


@torch.no_grad()
def detach(model: nn.Module) -> nn.Module:
    """Take the quantizers off, in place: a plain network whose weights are the quantized values.

    Returns:
        The same `model`, for chaining.
    """
    plain: dict[DeadZoneQuantizer, nn.Parameter] = {}
    for weight in list(quantized_weights(model)):
        if weight.quantizer not in plain:
            weight.quantizer.enabled = True
            value = weight.quantizer(weight.original)
            plain[weight.quantizer] = nn.Parameter(value, requires_grad=weight.original.requires_grad)
        remove_quantizer(weight)
        # A parameter of their own, shared among the layers that shared the quantizer: the float one may also serve a
        # layer that was never quantized, such as a tied embedding.
        setattr(weight.module, weight.tensor_name, plain[weight.quantizer])
    return model


def remove_quantizer(weight: QuantizedWeight) -> None:
    """Give a layer its float weight back, in place, without touching copies of the layer."""
    remove_parametrizations(weight.module, weight.tensor_name, leave_parametrized=False)


def remove_quantizers(model: nn.Module) -> None:
    """Give all layers their float weights back, in place: a network as it came, where attaching it has failed."""
    for weight in list(quantized_weights(model)):
        remove_quantizer(weight)


def _refuse_hooks(model: nn.Module) -> None:
    """Refuse what hooks compute, weights and what keeps a layer from being copied; and parametrizations, if only they
    keep the network from having a layer to quantize."""
    only = not any(True for _ in quantizable_weights(model))
    refused = [
        item
        for item in reparametrized(model)
        if not item.copies or (item.tensor_name in weight_names(item.module) and (only or not item.is_parametrization))
    ]
    if refused:
        others = f" (and {len(refused) - 1} more)" if len(refused) > 1 else ""
        raise AttachError(f"{refused[0].way_out}, or attach with bake=True{others}")


def quantizable_weights(model: nn.Module) -> Iterator[tuple[str, nn.Module, str]]:
    """Yield every weight of a plain network that `attach` may quantize: its name, its layer, and the tensor's name."""
    for layer, module in model.named_modules():
        for tensor_name in weight_names(module):
            parameter = module._parameters.get(tensor_name)
            if parameter is None or isinstance(parameter, nn.parameter.UninitializedParameter):
                continue
            if parameter.numel():
                yield weight_name(layer, tensor_name), module, tensor_name


def channel_axis(module: nn.Module) -> int:
    """Give the axis of a layer's weight that its output channels run along."""
    return 1 if isinstance(module, (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)) else 0


def leaves_inputs_out(module: nn.Module) -> bool:
    """Tell whether a layer reads every input channel by weights of its own, so that it can leave some out."""
    return isinstance(module, nn.Linear) or (isinstance(module, nn.modules.conv._ConvNd) and module.groups == 1)


def weight_names(module: nn.Module) -> tuple[str, ...]:
    """Name the parameters of a layer that its type makes quantizable; none for other layers."""
    return next((names for kind, names in WEIGHTS_BY_TYPE.items() if isinstance(module, kind)), ())


def recurrent_weight_names(module: nn.Module) -> tuple[str, ...]:
    """Name the matrices of a recurrent layer or cell; none for other layers."""
    if not isinstance(module, RECURRENT):
        return ()
    tensors = [*module._parameters, *getattr(module, "parametrizations", ())]
    return tuple(name for name in tensors if name.startswith("weight_"))


def recurrent_weights(model: nn.Module) -> Iterator[tuple[str, nn.Module, str]]:
    """Yield every matrix of a recurrent layer, which stays float: its name, its layer, and the tensor's name."""
    for layer, module in model.named_modules():
        for tensor_name in recurrent_weight_names(module):
            yield weight_name(layer, tensor_name), module, tensor_name


def select_weights(
    model: nn.Module,
    candidates: Mapping[str, object],
    patterns: str | Iterable[str],
    role: str,
    *,
    also: Iterable[str] = (),
) -> set[str]:
    """Select the candidate weights, and those of `also`, that match any pattern.

    Args:
        model: For messages.
        candidates: From `quantizable_weights`, by name.
        patterns: As for `attach`.
        role: What the patterns are given for, for messages.
        also: Further names that may be chosen.

    Raises:
        AttachError: A pattern matches none of them.
    """
    selected: set[str] = set()
    for pattern in [patterns] if isinstance(patterns, str) else patterns:
        found = {name for name in (*candidates, *also) if matches(pattern, (name, name.rpartition(".")[0]))}
        if not found:
            layers = dict(model.named_modules())
            others = [name for name in layers if name and matches(pattern, (name,))]
            detail = (
                f"matches {others[0]} ({type(layers[others[0]]).__name__}), which is not quantizable"
                if others
                else f"matches nothing; quantizable are {_shorten(list(candidates))}"
            )
            raise AttachError(f"{role}: {pattern!r} {detail}")
        selected |= found
    return selected


def _describe(
    model: nn.Module, reasons: Mapping[str, str], baked: tuple[str, ...], inputs: CalibrationInputs | None
) -> AttachReport:
    rows = tuple(_report_rows(model, reasons))
    if inputs is None:
        return AttachReport(rows, baked)
    tensors, names = split_inputs(model, collect_calibration(inputs, source="inputs"))
    signal = measure_network(model, quantized_layers(model), tensors, names)
    measured = tuple(replace(row, result_decibels=signal.results.get(row.name)) for row in rows)
    return AttachReport(measured, baked, signal.inputs, signal.outputs)


def _report_rows(model: nn.Module, reasons: Mapping[str, str]) -> Iterator[AttachRow]:
    quantizers = {weight.name: weight for weight in quantized_weights(model)}
    for layer, module in model.named_modules():
        layer_type = type(module).__name__.removeprefix("Parametrized")
        for tensor_name in getattr(module, "parametrizations", ()):
            weight = quantizers.get(weight_name(layer, tensor_name))
            if weight is not None:
                quantizer = weight.quantizer
                shape = tuple(weight.original.shape)
                kept = weight_decibels(weight.original, quantizer)
                yield AttachRow(
                    weight.name, layer_type, shape, True, quantizer.bits, quantizer.grid, weight_decibels=kept
                )
            elif tensor_name in weight_names(module):
                shape = tuple(getattr(module, tensor_name).shape)
                reason = "it has another parametrization; attach with bake=True"
                yield AttachRow(weight_name(layer, tensor_name), layer_type, shape, False, reason=reason)
        if isinstance(module, parametrize.ParametrizationList):
            continue
        for tensor_name, parameter in module.named_parameters(recurse=False):
            if isinstance(parameter, nn.parameter.UninitializedParameter):
                if tensor_name in weight_names(module):
                    reason = "lazy: run the network once"
                    yield AttachRow(weight_name(layer, tensor_name), layer_type, (), False, reason=reason)
            elif parameter.ndim >= 2:
                name = weight_name(layer, tensor_name)
                reason = reasons.get(name, f"{layer_type} is not quantized")
                yield AttachRow(name, layer_type, tuple(parameter.shape), False, reason=reason)


def weight_name(layer: str, tensor_name: str) -> str:
    """Join the names of a layer and its tensor: `layer1.conv1.weight`; the root layer has no name."""
    return f"{layer}.{tensor_name}" if layer else tensor_name


def _type_names() -> str:
    return ", ".join(kind.__name__ for kind in WEIGHTS_BY_TYPE)


def _shorten(names: list[str], limit: int = 4) -> str:
    more = f", ... ({len(names)} in all)" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more
