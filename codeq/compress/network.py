"""Compress a trained float network without training: codes for every weight, chosen with a few inputs.

    float network + inputs  ->  attach  ->  layer by layer: range, codes, corrections  ->  frozen quantizers

The result is an attached network as training would leave it: `codeq.save`, the exporters and the cost summary take it.
"""

import copy
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from codeq.activations.moves import roots
from codeq.activations.noise import Power
from codeq.compress.choose import choose_codes
from codeq.compress.columns import Layer, layer_of, whole
from codeq.compress.folded import folded_channels
from codeq.compress.layer_by_layer import walk
from codeq.compress.pick import METHODS, pick
from codeq.compress.problem import LayerProblem
from codeq.compress.report import CompressedWeight, CompressReport
from codeq.data.collect import CalibrationInputs, collect_calibration
from codeq.errors import CompressError
from codeq.graph.autocast import autocast_off
from codeq.graph.eval_mode import eval_mode
from codeq.graph.inputs import call, named_outputs, split_inputs
from codeq.graph.kept_state import kept_state
from codeq.graph.nodes import is_constant, state_name
from codeq.graph.trace import trace
from codeq.quantizer.attach import QuantizedWeight, attach, encode, quantized_weights
from codeq.toolkit.patterns import matches

BATCH_SIZE = 25
"""Inputs that are computed at a time."""
HELD = 8
"""One in so many inputs is held back, and the result judged on these alone."""
FEW_INPUTS = 32
"""A layer whose outputs each read fewer values, above all a depthwise convolution, stays at 8 bits by itself: rounding
has nothing to make up with, and such layers are a few percent of a network's weights."""
KEPT_BITS = 8
"""Of layers that are kept, and the bits at which plain rounding leaves nothing to gain."""


def compress(
    model: nn.Module,
    calibration: CalibrationInputs,
    *,
    bits: int = 8,
    zeros: float = 0.0,
    method: str | None = None,
    granularity: str = "channel",
    correct: bool | None = None,
    keep: bool = True,
    exclude: str | Iterable[str] = (),
    overrides: Mapping[str, Mapping[str, Any]] | None = None,
    count: int | None = None,
    seed: int = 0,
    on_progress: Callable[[float, str], None] = lambda share, detail: None,
) -> CompressReport:
    """Attach quantizers to a trained network and choose all codes, in place.

    Args:
        model: A float network in whatever mode; it is run in eval mode.
        calibration: Inputs as the network will get them: a tensor, an array, a tuple or a mapping of several, a
            DataLoader or any iterable of batches. Labels are left out.
        bits: 2 to 8, of every weight that is not kept.
        zeros: Share of zeros in every weight that is not kept, in [0, 1): the dead zone is as wide as that needs.
        method: One of `METHODS`; None takes "rounding" at 8 bits without `zeros`, where nothing is left to gain,
            "exact_obs" with `zeros`, and "obq" else. At 8 bits without `zeros` layers are rounded whatever it says.
        granularity: As for `attach`.
        correct: Correct biases and the statistics of BatchNorms; None does so below 8 bits and with `zeros`, where it
            gains something.
        keep: Leave at 8 bits, and without more zeros than rounding gives, the layers that read an input of the network
            and those whose outputs read few values (`FEW_INPUTS`); an override has the last word.
        exclude, overrides: As for `attach`.
        count: Inputs to take; None takes all of a tensor, or as many of an iterable as memory allows.
        seed: Of the places of feature maps that count, and of stochastic rounding.
        on_progress: Called with the share done, 0 to 1, and the weight that is next.

    Returns:
        What was done to every weight, and what is left of the network's outputs.

    Raises:
        CompressError: No such method, or a weight is not finite.
        CalibrationError: The calibration inputs do not fit the network; AttachError, TraceError: nor does the network.

    Example:
        >>> network = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4))
        >>> compress(network, torch.randn(64, 8), bits=4).method
        'obq'
    """
    if not 0 <= zeros < 1:
        raise CompressError(f"zeros must be at least 0 and below 1, found {zeros!r}")
    plain = bits == KEPT_BITS and not zeros
    method = method or ("rounding" if plain else "exact_obs" if zeros else "obq")
    correct = not plain if correct is None else correct
    if method not in METHODS:
        raise CompressError(f"method must be one of {', '.join(METHODS)}, found {method!r}")
    broken = next((name for name, tensor in model.state_dict().items() if not bool(tensor.isfinite().all())), None)
    if broken is not None:
        raise CompressError(f"{broken} has NaN or infinite entries; load the network's trained weights first")
    tensors, names = split_inputs(model, collect_calibration(calibration, count=count))
    total = len(tensors[0])
    held = tuple(tensor[total - max(1, total // HELD) :] for tensor in tensors)
    if total > 1:  # one input has to do for both
        tensors = tuple(tensor[: total - len(held[0])] for tensor in tensors)
    original = copy.deepcopy(model).eval()
    exported = trace(original, tuple(tensor[:2] for tensor in tensors), names)
    first_names = {id(parameter): name for name, parameter in original.named_parameters()}
    aliases = {name: first_names[id(p)] for name, p in original.named_parameters(remove_duplicate=False)}

    attach(model, bits, granularity=granularity, exclude=exclude, overrides=overrides)
    weights: dict[str, QuantizedWeight] = {}
    for weight in quantized_weights(model):
        weights.setdefault(aliases[weight.name], weight)
    given = _given(model, overrides)
    folded = {aliases[name]: channels for name, channels in folded_channels(exported).items() if name in aliases}
    first = {aliases.get(name, name) for name in _first_layers(exported)}
    rows: dict[str, CompressedWeight] = {}

    def decide(
        name: str,
        layer: Layer | None,
        problems: Callable[[], list[LayerProblem]],
        largest: Callable[[], float] = lambda: 0.0,
    ) -> Tensor:
        weight = weights[name]
        is_layer = layer is not None
        layer = layer or whole(weight.original, weight.quantizer.axis)
        matrix = layer.matrix(weight.original.detach())
        reason = ""
        if keep and not plain and weight.name not in given:
            if name in first:
                reason = "it reads an input of the network"
            elif is_layer and matrix.shape[2] < FEW_INPUTS:
                reason = f"its outputs read {matrix.shape[2]} values each"
        quantizer = weight.quantizer
        if reason:
            quantizer.bits = KEPT_BITS
        width = quantizer.bit_width()
        wanted = 0.0 if reason else zeros
        chosen = "rounding" if width == KEPT_BITS and not wanted else method
        found = problems() if chosen != "rounding" and is_layer else []
        if not found:
            chosen = "rounding"
            found = [LayerProblem(part, torch.empty(0)) for part in matrix]
        picked = pick(chosen, (len(found), *matrix.shape[1:]), bits=width, zeros=wanted, seed=seed)
        if picked.bits != width:
            quantizer.bits = picked.bits
        least = folded[name].least_scale(largest()) if is_layer and name in folded else None
        values = choose_codes(
            weight,
            layer,
            found,
            picked.method,
            zeros=picked.zeros,
            least_scale=least,
            reference=picked.reference,
        )
        value = layer.restore(values, tuple(weight.original.shape))
        rows[name] = CompressedWeight(
            weight.name, tuple(value.shape), picked.index_bits, picked.name, reason, note=picked.note()
        )
        return value

    # Rounding alone asks nothing of inputs: then the walk only measures what is left of every layer.
    walked_inputs = tensors if correct or method != "rounding" else held
    batches = [
        tuple(tensor[start : start + BATCH_SIZE] for tensor in walked_inputs)
        for start in range(0, len(walked_inputs[0]), BATCH_SIZE)
    ]
    walked = walk(
        exported,
        batches,
        {alias: name for alias, name in aliases.items() if name in weights},
        decide,
        correct=correct,
        seed=seed,
        on_progress=on_progress,
    )
    _take(model, weights, aliases, walked.tensors)
    for name, weight in weights.items():
        if name not in rows:  # no output reads it
            weight.original.data.copy_(decide(name, None, list))
    encodings = encode(model)
    layers = tuple(
        row.finished(encodings[row.name], walked.powers.get(name), walked.elsewhere.get(name, ""))
        for name, row in rows.items()
    )
    return CompressReport(
        method=method,
        bits=bits,
        granularity=granularity,
        inputs=len(tensors[0]),
        held_inputs=len(held[0]),
        weights=layers,
        output_decibels=_compare(original, model, held, names),
    )


@torch.no_grad()
@autocast_off()
def _compare(
    original: nn.Module, model: nn.Module, held: tuple[Tensor, ...], names: tuple[str, ...]
) -> tuple[float, ...]:
    """Measure what is left of each output, in dB: signal to noise against the float network on held inputs."""
    powers: dict[str, Power] = {}
    for start in range(0, len(held[0]), BATCH_SIZE):
        batch = tuple(tensor[start : start + BATCH_SIZE].clone() for tensor in held)
        answers = []
        for network in (original, model):
            with eval_mode(network), kept_state(network):
                answers.append(named_outputs(network, call(network, batch, names)))
        for name, wanted in answers[0].items():
            if wanted.is_floating_point():
                powers.setdefault(name, Power()).add(wanted, answers[1][name])
    return tuple(power.decibels for power in powers.values())


def _given(model: nn.Module, overrides: Mapping[str, Mapping[str, Any]] | None) -> set[str]:
    """Name the weights whose bits the caller has chosen."""
    patterns = [pattern for pattern, changes in (overrides or {}).items() if "bits" in changes]
    names = [weight.name for weight in quantized_weights(model)]
    return {name for name in names if any(matches(pattern, (name, name.rpartition(".")[0])) for pattern in patterns)}


def _first_layers(exported: Any) -> set[str]:
    """Name the weights of layers that read an input, or what only moves or pads it."""
    found = set()
    for node in exported.graph.nodes:
        if node.op == "call_function" and layer_of(node) is not None:
            source, operand = node.args[:2]
            is_first = any(root.op == "placeholder" and not is_constant(root) for root in roots(source))
            name = state_name(exported, operand)
            if is_first and name is not None:
                found.add(name)
    return found


def _take(
    model: nn.Module, weights: Mapping[str, QuantizedWeight], aliases: Mapping[str, str], tensors: Mapping[str, Tensor]
) -> None:
    """Put what was chosen into the network."""
    with torch.no_grad():
        for name, value in tensors.items():
            if aliases.get(name) in weights:
                weights[aliases[name]].original.copy_(value)
            else:
                target = dict(model.named_parameters()) | dict(model.named_buffers())
                target[name].copy_(value)
