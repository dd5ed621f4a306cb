"""Take over a state_dict of the method's authors: their parametrized weights become quantizers of ours, bit for bit.

    X.parametrizations.weight.original                     the float weight
    X.parametrizations.weight.0.quantizer.logit_dz ...     `PublishedQuantizer`

Their operator (github.com/saintslab/CoDeQ, arXiv:2512.12981) computes in float32, in this order:

    R = 0.99 quantile of |w|        d = 2 R (1 - |tanh(logit_dz)|)        b = round((max - min) |tanh(logit_bit)| + min)
    Q = 2^(b-1) - 1                 s = (R - d / 2) / (Q - 1/2) + 1e-8    shift = d / 2 - s / 2
    k = clamp(round(sign(w) relu(|w| - shift) / s), -Q, Q)                value = s k + shift sign(k)

Here it is computed so once, and the quantizer is frozen on this s and shift: ours derives both in float64, and
multiplies by 1 / s. Theirs is attached to anything with a weight. Where ours is not (BatchNorm, LayerNorm, embeddings),
the value becomes the weight.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from codeq.adopt.report import AdoptedWeight, AdoptReport
from codeq.errors import AttachError, CheckpointError
from codeq.quantizer.abs_range import RANGE_QUANTILE, plain_abs_quantile
from codeq.quantizer.attach import (
    QuantizedWeight,
    attach_each,
    channel_axis,
    describe,
    quantized_weights,
    weight_names,
)
from codeq.quantizer.choices import MAX_BITS, MIN_BITS
from codeq.quantizer.grid import fit_quant_max, float32, snap_shift
from codeq.quantizer.placement import STEP_EPSILON
from codeq.training.init_weights import load_floats, unwrap_names

FIELDS = ("logit_dz", "logit_bit", "fixed_bit", "max_bits", "min_bits", "learnable_bit")
KEY = re.compile(
    r"(?P<weight>(?P<layer>(?:.*\.)?)parametrizations\.(?P<tensor>[^.]+))\.(?:original|0\.quantizer\.(?P<field>\w+))"
)
STATE_DICT = Path("state_dict")
"""What messages call a state_dict that came from no file."""
CODE_LIMIT = 127


@dataclass(frozen=True, eq=False)
class PublishedQuantizer:
    """Holds one weight's quantizer as their state_dict has it: `()` tensors, logits as trained."""

    logit_dz: Tensor
    logit_bit: Tensor
    fixed_bit: Tensor
    max_bits: Tensor
    min_bits: Tensor
    learnable_bit: Tensor

    @property
    def bit_width(self) -> Tensor:
        """Compute the bits per weight, float32 `()`."""
        if not bool(self.learnable_bit):
            return self.fixed_bit
        return ((self.max_bits - self.min_bits) * torch.tanh(self.logit_bit).abs() + self.min_bits).round()

    def quantize(self, w: Tensor) -> "PublishedWeight":
        """Compute their forward pass, operation by operation."""
        reach = plain_abs_quantile(w, RANGE_QUANTILE)
        bits = self.bit_width
        dead_zone = 2.0 * reach * (1 - torch.tanh(self.logit_dz).abs())
        quant_max = torch.pow(torch.tensor(2.0), bits - 1.0) - 1.0
        step_size = (reach - dead_zone / 2.0) / (quant_max - 0.5) + STEP_EPSILON
        shift = dead_zone / 2 - step_size / 2
        levels = (torch.sign(w) * (w.abs() - shift).clamp(min=0) / step_size).round()
        levels = levels.clamp(min=-quant_max, max=quant_max)
        values = step_size * levels + shift * torch.sign(levels)
        dead_fraction = 1 - float(torch.tanh(self.logit_dz).abs())
        return PublishedWeight(self, w, values, step_size, shift, int(bits), int(quant_max), dead_fraction)


@dataclass(frozen=True, eq=False)
class PublishedWeight:
    """Holds what their operator makes of a float weight: values, and where the levels lie."""

    quantizer: PublishedQuantizer
    original: Tensor
    values: Tensor
    step_size: Tensor
    shift: Tensor
    bits: int
    quant_max: int
    dead_fraction: float


def is_published(names: Iterable[str]) -> bool:
    """Tell whether names of a state_dict are those of the method's authors."""
    return any((found := KEY.fullmatch(name)) and found["field"] in FIELDS for name in names)


@torch.no_grad()
def from_published(
    model: nn.Module, state_dict: Mapping[str, Tensor], *, snap: bool = False, source: Path = STATE_DICT
) -> AdoptReport:
    """Load a state_dict that the method's authors' code wrote into a plain network, and attach, in place.

    Args:
        model: The network as it is without their quantizers.
        state_dict: Theirs. A prefix of DistributedDataParallel or torch.compile is taken away.
        snap: Put the values on the integer grid, which integer kernels need, and report by how many steps they are off.
            Else they stay on the paper's grid, equal to theirs bit for bit.
        source: The file, for messages.

    Returns:
        What each weight is now. All quantizers are frozen; thetas are theirs.

    Raises:
        CheckpointError: It is no such state_dict, lacks tensors, has other shapes than the network, or values that no
            training leaves. The network is then as it was.
        AttachError: The network has quantizers already.

    Examples:
        >>> layer = nn.Sequential(nn.Linear(8, 4, bias=False))
        >>> quantizer = {name: torch.tensor(3.0) for name in FIELDS}
        >>> state = {f"0.parametrizations.weight.0.quantizer.{name}": value for name, value in quantizer.items()}
        >>> state["0.parametrizations.weight.original"] = torch.randn(4, 8)
        >>> from_published(layer, state).weights[0].bits
        3
    """
    if any(True for _ in quantized_weights(model)):
        raise AttachError("the network has quantizers already; from_published takes it without")
    state = unwrap_names(state_dict, model.state_dict())
    weights = {name: _quantize(source, name, *parts) for name, parts in _read(source, state).items()}
    shared = _shared(source, model, weights)
    load_floats(model, state, source)
    quantizable: dict[str, nn.Module] = {}
    baked = []
    for name, weight in weights.items():
        layer, _, tensor_name = name.rpartition(".")
        module = model.get_submodule(layer)
        if tensor_name in weight_names(module) and weight.original.numel():
            quantizable[name] = module
        else:
            getattr(module, tensor_name).copy_(weight.values)
            baked.append(f"{name} ({type(module).__name__})")
    attach_each(model, {name: _config(weights[name], module, snap=snap) for name, module in quantizable.items()})
    rows = []
    for quantized in quantized_weights(model):
        weight = weights[quantized.name]
        _take_thetas(quantized, weight)
        steps_off = _snap(quantized, weight) if snap else _freeze(quantized, weight, keep=quantized.name not in shared)
        rows.append(AdoptedWeight.of(quantized, steps_off))
    skipped = {name: reason for name, reason in describe(model).skipped.items() if name not in weights}
    return AdoptReport("published", tuple(rows), skipped, tuple(baked))


def _read(source: Path, state: Mapping[str, Tensor]) -> dict[str, tuple[Tensor, PublishedQuantizer]]:
    """Find every quantizer with its weight, by the weight's name."""
    keys = [found for found in map(KEY.fullmatch, state) if found]
    names = {found["weight"]: found["layer"] + found["tensor"] for found in keys if found["field"]}
    if not names:
        raise CheckpointError(
            f"{source}: has no X.parametrizations.weight.0.quantizer.logit_dz, which saintslab/CoDeQ saves; "
            "for other tools there is codeq.recover"
        )
    found: dict[str, tuple[Tensor, PublishedQuantizer]] = {}
    for prefix, name in names.items():
        missing = [key for key in (f"{prefix}.original", *_keys(prefix)) if key not in state]
        if missing:
            raise CheckpointError(f"{source}: lacks {missing[0]}" + _more(missing))
        fields = {}
        for field, key in zip(FIELDS, _keys(prefix), strict=True):
            value = state[key]
            if value.numel() != 1 or not bool(value.isfinite().all()):
                what = f"shape {tuple(value.shape)}" if value.numel() != 1 else f"the value {float(value)}"
                raise CheckpointError(f"{source}: {key} has {what}, expected a number")
            fields[field] = value.reshape(()).float().cpu()
        original = state[f"{prefix}.original"]
        if original.dtype != torch.float32:
            raise CheckpointError(f"{source}: {prefix}.original is {original.dtype}, expected torch.float32")
        if not original.numel() or not bool(original.isfinite().all()):
            what = "NaN or infinite entries" if original.numel() else "no entries"
            raise CheckpointError(f"{source}: {prefix}.original has {what}")
        found[name] = original.detach().cpu(), PublishedQuantizer(**fields)
    return found


def _keys(prefix: str) -> list[str]:
    return [f"{prefix}.0.quantizer.{field}" for field in FIELDS]


def _more(names: list[str]) -> str:
    return f" (and {len(names) - 1} more)" if len(names) > 1 else ""


def _quantize(source: Path, name: str, original: Tensor, quantizer: PublishedQuantizer) -> PublishedWeight:
    bits = float(quantizer.bit_width)
    if not (bits.is_integer() and MIN_BITS <= bits <= MAX_BITS):
        raise CheckpointError(
            f"{source}: {name} has {bits:g} bits, expected a whole number from {MIN_BITS} to {MAX_BITS}"
        )
    return quantizer.quantize(original)


def _shared(source: Path, model: nn.Module, weights: Mapping[str, PublishedWeight]) -> set[str]:
    """Name the weights that are one parameter of the network in several layers; they must have become one value."""
    names: dict[int, list[str]] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        names.setdefault(id(parameter), []).append(name)
    shared: set[str] = set()
    for group in names.values():
        if len(group) < 2 or not any(name in weights for name in group):
            continue
        first = next(name for name in group if name in weights)
        for name in group:
            if name not in weights or not torch.equal(weights[name].values, weights[first].values):
                raise CheckpointError(
                    f"{source}: {first} and {name} are one parameter of {type(model).__name__}, and are quantized to "
                    "different values; build the network with a weight for each"
                )
        shared |= set(group)
    return shared


def _config(weight: PublishedWeight, module: nn.Module, *, snap: bool) -> dict[str, Any]:
    quantizer = weight.quantizer
    learned = bool(quantizer.learnable_bit) and float(quantizer.min_bits) == MIN_BITS
    learned &= float(quantizer.max_bits) in range(MIN_BITS + 1, MAX_BITS + 1)
    bits = {"bits": None, "max_bits": int(quantizer.max_bits)} if learned else {"bits": weight.bits}
    return bits | {"grid": "integer" if snap else "paper", "axis": channel_axis(module)}


def _take_thetas(quantized: QuantizedWeight, weight: PublishedWeight) -> None:
    ours, theirs = quantized.quantizer, weight.quantizer
    ours.theta_dz.fill_(theirs.logit_dz)
    if ours.theta_bit is not None:
        ours.theta_bit.fill_(theirs.logit_bit)
        if ours.bit_width() != weight.bits:  # at the middle of two widths, float32 and float64 may round apart
            ours.bits, ours.theta_bit = weight.bits, None


def _freeze(quantized: QuantizedWeight, weight: PublishedWeight, *, keep: bool) -> float:
    """Freeze on their grid, with their float weights as far as they give their values here."""
    quantizer = quantized.quantizer
    quantizer.freeze_grid(weight.step_size, 1, 0, weight.quant_max, float(weight.shift))
    values = weight.values.to(quantized.original.device)
    if not keep:
        quantized.original.copy_(values)
    # Where |w| is at the middle of two levels, their division and our product may round apart: take the level itself.
    differs = quantizer.encode(quantized.original).dequantize() != values
    quantized.original.copy_(torch.where(differs, values, quantized.original))
    if not torch.equal(quantizer.encode(quantized.original).dequantize(), values):
        raise CheckpointError(f"{quantized.name}: its levels lie too close to each other to be told apart")
    return 0.0


def _snap(quantized: QuantizedWeight, weight: PublishedWeight) -> float:
    """Freeze on the integer grid that is nearest to theirs; returns how far values are off, in their steps."""
    quant_max = fit_quant_max(weight.quant_max, weight.dead_fraction, CODE_LIMIT)
    ratio = float(weight.shift) / float(weight.step_size)
    multiplier, offset = snap_shift(ratio, quant_max, CODE_LIMIT) if quant_max > 1 else (1, 0)
    values = weight.values.double()
    magnitudes, codes = values.abs(), torch.zeros_like(values)
    highest = float(weight.step_size) * weight.quant_max + float(weight.shift)
    scale = float32(highest / (multiplier * quant_max + offset))
    for _ in range(2):  # codes on the first scale, then those on the scale of least squared error for them
        levels = ((magnitudes / scale - offset) / multiplier).round().clamp(1, quant_max)  # none becomes zero
        codes = (levels * multiplier + offset) * values.sign()
        if bool(codes.any()):
            scale = float32(float((codes * values).sum() / (codes * codes).sum()))
    snapped = codes.float() * scale
    quantized.original.copy_(snapped)
    quantized.quantizer.freeze_grid(torch.tensor(scale), multiplier, offset, quant_max)
    found = quantized.quantizer.encode(quantized.original)
    assert torch.equal(found.codes.cpu().double(), codes), f"{quantized.name}: the quantizer gives other codes"
    return float((found.dequantize().cpu() - values).abs().max()) / float(weight.step_size)
