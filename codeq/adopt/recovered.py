"""Recover the integer codes of weights that some tool has fake-quantized: exactly, or not at all.

    weight == float32(codes * scale), bit for bit        |codes| <= 127, one scale, or one for each output channel

The values themselves say which grid they lie on (find_scale.py), whatever trained them. What is attached is a frozen
quantizer whose value is the weight that was there.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from codeq.adopt.activation_scales import Scales, read_scales
from codeq.adopt.find_scale import CODE_LIMIT, NEAR, WIDE_LIMIT, Fit, codes_on, find_scale
from codeq.adopt.report import AdoptedWeight, AdoptReport
from codeq.errors import CheckpointError, RecoverError
from codeq.graph.inputs import Inputs
from codeq.quantizer.attach import (
    QuantizedWeight,
    attach,
    attach_each,
    channel_axis,
    quantized_weights,
    remove_quantizer,
    remove_quantizers,
)
from codeq.quantizer.choices import MIN_BITS
from codeq.quantizer.fake_quantized import is_fake_quantized, is_quantizer, make_plain
from codeq.quantizer.grid import float32
from codeq.safe_load import check_values
from codeq.training.init_weights import load_floats, unwrap_names

EMPTY_SCALE = float32(1 / CODE_LIMIT)
"""Of a weight without any non-zero value, as attach gives it."""


@dataclass(frozen=True, eq=False)
class FoundGrid:
    """Holds the grid of one weight, code = multiplier * level + offset * sign(level).

    Attributes:
        scale: float32, `()` or `(C,)`.
        axis: Of the channels; None with one scale.
        multiplier, offset, quant_max: Of all codes.
        values: What the codes stand for, float32: the weight, or the nearest with `snap`.
        steps_off: Largest distance of a value from the weight; 0 without `snap`.
    """

    scale: Tensor
    axis: int | None
    multiplier: int
    offset: int
    quant_max: int
    values: Tensor
    steps_off: float

    @property
    def bits(self) -> int:
        """Return the bits of a level with its sign."""
        return max(MIN_BITS, self.quant_max.bit_length() + 1)

    def config(self) -> dict[str, Any]:
        """Return the arguments of a quantizer that can be frozen on it."""
        granularity = "tensor" if self.axis is None else "channel"
        return {"bits": self.bits, "granularity": granularity, "axis": self.axis or 0}


class NoGridError(Exception):
    """Raised for one weight that lies on no grid; the text says why, without its name."""


def recover(
    model: nn.Module,
    example_inputs: Inputs | None = None,
    *,
    include: str | Iterable[str] | None = None,
    exclude: str | Iterable[str] = (),
    snap: bool = False,
) -> AdoptReport:
    """Attach frozen quantizers to a network whose weights lie on integer grids, in place.

    Layers that quantize their weight in `forward`, those of torch.ao, torchao and Brevitas, become plain ones with
    the value it has in eval mode, BatchNorms fused into them are folded, and their activation quantizers are taken out.
    So are weights that a parametrization computes.

    Args:
        model: A network with fake-quantized values in its weights, or with such layers.
        example_inputs: One small batch: a tensor, a tuple or a mapping. With it the scales of activation quantizers are
            read: `activations` of the report.
        include, exclude: As for `attach`; layers that are left out stay float.
        snap: Where a weight has codes beyond 127 (-128 above all), or is a rounding error away from its grid, take the
            nearest codes, and report by how many steps they are off.

    Returns:
        What each weight was found to be.

    Raises:
        RecoverError: A weight lies on no grid of 8 bits; the message has the largest deviation. The network is then
            left without quantizers.
        AttachError: As for `attach`.

    Examples:
        >>> layer = nn.Sequential(nn.Linear(64, 4))
        >>> layer[0].weight.data = (layer[0].weight.data / 0.01).round().clamp(-7, 7) * 0.01
        >>> recover(layer).weights[0].bits
        4
    """
    quantizers = make_plain(model)
    try:
        report = attach(model, bits=8, include=include, exclude=exclude, bake=True)
        weights = list(quantized_weights(model))
        for weight in weights:
            remove_quantizer(weight)
        found = _find_all(weights, snap=snap)
        attach_each(model, {name: grid.config() for name, grid in found.items()})
        for weight in quantized_weights(model):
            _freeze_on(weight, found[weight.name])
        rows = tuple(AdoptedWeight.of(weight, found[weight.name].steps_off) for weight in quantized_weights(model))
        try:
            scales = Scales() if example_inputs is None else read_scales(model, quantizers, example_inputs)
        except BaseException:
            remove_quantizers(model)
            raise
    finally:
        for quantizer in quantizers:
            quantizer.remove()
    return AdoptReport("recovered", rows, report.skipped, report.baked, scales.encodings, scales.notes)


def load_quantized(model: nn.Module, state: Mapping[str, Tensor], source: Path) -> None:
    """Load what another tool saved of a quantized network, in place.

    Args:
        model: As the tool trained it, with its fake quantizers; or plain, for a state_dict of quantized values.
        state: As `read_state` returns it.
        source: For messages.

    Raises:
        CheckpointError: It does not fit, or has values that no training leaves.
    """
    if not is_fake_quantized(model):
        if any(name.endswith(".fake_quant_enabled") for name in state):
            raise CheckpointError(
                f"{source}: is of a network with fake quantizers, and {type(model).__name__} has none; "
                "build it as it was trained, prepared by torch.ao.quantization"
            )
        load_floats(model, state, source)
        return
    state = unwrap_names(state, model.state_dict())
    quantizers = tuple(f"{name}." for name, module in model.named_modules() if is_quantizer(module))
    for name, tensor in state.items():
        if not name.startswith(quantizers):  # an observer that saw nothing holds infinities
            check_values(source, name, tensor)
    try:
        model.load_state_dict(state)  # whose modules give their scales the shapes of the file's
    except RuntimeError as error:
        text = " ".join(str(error).split()).removeprefix(f"Error(s) in loading state_dict for {type(model).__name__}: ")
        raise CheckpointError(f"{source}: does not fit {type(model).__name__}: {text[:200]}") from error


def _find_all(weights: Iterable[QuantizedWeight], *, snap: bool) -> dict[str, FoundGrid]:
    found: dict[str, FoundGrid] = {}
    refused: dict[str, str] = {}
    for weight in weights:
        value = getattr(weight.module, weight.tensor_name).detach()
        try:
            found[weight.name] = find_grid(value, channel_axis(weight.module), snap=snap)
        except NoGridError as error:
            refused[weight.name] = str(error)
    if refused:
        name = next(iter(refused))
        others = f" (and {len(refused) - 1} more)" if len(refused) > 1 else ""
        raise RecoverError(f"{name} {refused[name]}{others}")
    return found


def find_grid(weight: Tensor, axis: int, *, snap: bool = False) -> FoundGrid:
    """Find the grid that a weight lies on, one scale for all if there is such, else one for every output channel.

    Args:
        weight: float32, any shape.
        axis: Of its output channels.
        snap: As for `recover`.

    Raises:
        NoGridError: There is none.
    """
    if weight.dtype != torch.float32:
        raise NoGridError(f"is {weight.dtype}, expected torch.float32; call model.float() where its values allow it")
    if not bool(weight.isfinite().all()):
        raise NoGridError("has NaN or infinite entries")
    values = weight.cpu().numpy()
    rows = np.moveaxis(values, axis, 0)
    for limit in (CODE_LIMIT, WIDE_LIMIT):
        whole = find_scale(values, limit)
        if whole is None:
            return _codes(weight, np.array(EMPTY_SCALE, np.float32), None, snap=snap)
        if whole.exact:
            return _codes(weight, np.array(whole.scale, np.float32), None, snap=snap)
        fits = {channel: fit for channel, row in enumerate(rows) if (fit := find_scale(row, limit)) is not None}
        if all(fit.exact for fit in fits.values()):
            return _codes(weight, _scales(fits, len(rows)), axis, snap=snap)
    assert whole is not None
    worst = max(fits, key=lambda channel: fits[channel].deviation)
    per_channel = fits[worst].deviation < NEAR <= whole.deviation
    deviation = fits[worst].deviation if per_channel else whole.deviation
    if deviation >= NEAR:
        raise NoGridError(
            f"lies on no grid of 8 bits: channel {worst} has values up to {fits[worst].deviation:.2g} steps off, "
            "whatever the scale: float, or scaled in groups; leave it out with exclude"
        )
    if not snap:
        raise NoGridError(
            f"is off its grid by rounding, up to {deviation:.1g} steps, as w + (q - w) is; "
            "give it the quantizer's own result, or take the nearest codes with snap"
        )
    scale = _scales(fits, len(rows)) if per_channel else np.array(whole.scale, np.float32)
    return _codes(weight, scale, axis if per_channel else None, snap=True)


def _scales(fits: Mapping[int, Fit], count: int) -> np.ndarray:
    """Give every channel's scale; one of zeros takes the smallest: 0, denormals and 1 each break some runtime."""
    least = min(fit.scale for fit in fits.values())
    return np.array([fits[channel].scale if channel in fits else least for channel in range(count)], np.float32)


def _codes(weight: Tensor, scale: np.ndarray, axis: int | None, *, snap: bool) -> FoundGrid:
    """Compute the codes, hold them to their limit, and prove that they are the weight."""
    values = weight.cpu().numpy()
    shape = [1] * values.ndim
    if axis is not None:
        shape[axis] = -1
    spread = scale.reshape(shape)
    wide = codes_on(values, spread)
    low, high = int(wide.min()), int(wide.max())
    if max(-low, high) > CODE_LIMIT + 1:
        raise NoGridError(
            f"has codes from {low} to {high}, those of a zero point: int8 codes without one hold {CODE_LIMIT}; "
            "train with symmetric weights"
        )
    if max(-low, high) > CODE_LIMIT and not snap:
        count = int((np.abs(wide) > CODE_LIMIT).sum())
        raise NoGridError(
            f"has {count} codes of {low if -low > high else high}, and files hold codes up to {CODE_LIMIT}; "
            f"train with quant_min=-{CODE_LIMIT}, or take the nearest with snap"
        )
    codes = wide.clip(-CODE_LIMIT, CODE_LIMIT)
    found = codes.astype(np.float32) * spread
    off = 0.0
    if not np.array_equal(found, values):
        off = float((np.abs(found.astype(np.float64) - values) / spread).max())
        assert snap, "what find_scale calls exact is exact"
    multiplier, offset, quant_max = _levels_of(codes)
    return FoundGrid(
        torch.from_numpy(scale), axis, multiplier, offset, quant_max, torch.from_numpy(found).to(weight.device), off
    )


def _levels_of(codes: np.ndarray) -> tuple[int, int, int]:
    """Give (multiplier, offset, quant_max) such that the fewest levels per sign give all codes."""
    used = np.unique(np.abs(codes))
    used = used[used > 0]
    if len(used) < 2:
        # One magnitude, or none: the first level of any grid.
        return 1, int(used[0]) - 1 if len(used) else 0, 1
    multiplier = int(np.gcd.reduce(np.diff(used)))
    offset = int(used[0]) - multiplier
    return multiplier, offset, int((used[-1] - offset) // multiplier)


@torch.no_grad()
def _freeze_on(weight: QuantizedWeight, found: FoundGrid) -> None:
    weight.original.copy_(found.values)
    weight.quantizer.freeze_grid(found.scale, found.multiplier, found.offset, found.quant_max)
    value = weight.quantizer.encode(weight.original).dequantize()
    assert torch.equal(value, found.values), f"{weight.name}: the quantizer gives other values than were found"
