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
from codeq.compress.allocation import Allocation
from codeq.compress.columns import layer_of
from codeq.compress.decide import KEPT_BITS, Decisions, Kept
from codeq.compress.equalise import Equalised
from codeq.compress.equalise import equalise as find_equalised
from codeq.compress.folded import folded_channels
from codeq.compress.layer_by_layer import walk
from codeq.compress.names import EQUALISE
from codeq.compress.outputs import add_powers, float_outputs
from codeq.compress.pick import METHODS
from codeq.compress.report import CompressReport
from codeq.compress.sensitivity import BITS, Sensitivity, measure
from codeq.cost import FLOAT_BITS, summary
from codeq.data.collect import CalibrationInputs, collect_calibration
from codeq.errors import CompressError
from codeq.graph.inputs import split_inputs
from codeq.graph.nodes import is_constant, state_name
from codeq.graph.trace import trace
from codeq.quantizer.attach import QuantizedWeight, attach, encode, quantized_weights, remove_quantizer
from codeq.toolkit.patterns import matches
from codeq.training.budget import Budget

BATCH_SIZE = 25
"""Inputs that are computed at a time."""
HELD = 8
"""One in so many inputs is held back, and the result judged on these alone."""
MEASURING = 0.3
"""Share of the progress that measuring sensitivities counts."""


def compress(
    model: nn.Module,
    calibration: CalibrationInputs,
    *,
    bits: int | None = None,
    zeros: float = 0.0,
    budget: Budget | None = None,
    method: str | None = None,
    granularity: str = "channel",
    correct: bool | None = None,
    equalise: str | None = None,
    absorb: bool = False,
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
        bits: 2 to 8, of every weight that is not kept. None is 8; under a budget of bit operations or bytes it is for
            each weight what the budget is best spent on.
        zeros: Share of zeros in every weight that is not kept, in [0, 1): the dead zone is as wide as that needs.
        budget: What the network may cost instead: zeros, and bits where they are open, go where they cost the outputs
            least, by what is measured of each weight (sensitivity.py, allocation.py).
        method: One of `METHODS`; None takes "rounding" at 8 bits without `zeros`, where nothing is left to gain,
            "exact_obs" with `zeros`, and "obq" else. At 8 bits without `zeros` layers are rounded whatever it says.
        granularity: As for `attach`.
        correct: Correct biases, and re-estimate the statistics of BatchNorms (Nagel et al. 2019, arXiv:1906.04721,
            section 4.2; layer_by_layer.py). None does so below 8 bits and with `zeros`. At 8 bits it walks through all
            calibration inputs, which rounding alone does not need, for 0.7 and 1.0 dB of the two files measured.
        equalise: Scale channels first, so that one range serves them all better (equalise.py); what the float network
            computes stays, bit for bit. "rows" scales rows in front of BatchNorms, "weights" and "activations" channels
            between layers, and rows too where a weight has one range. None takes "rows" there, and "none" elsewhere.
            "activations" is for LayerNorms with a few channels much larger than the others.
        absorb: Let what reads a channel take up the part of its bias that the relu in between hardly ever cuts, which
            changes the float network a little. No network that was measured has such biases.
        keep: Leave at 8 bits, and without more zeros than rounding gives, the layers that read an input of the network
            and those whose outputs read few values (`FEW_INPUTS` of decide.py); an override has the last word.
        exclude, overrides: As for `attach`.
        count: Inputs to take; None takes all of a tensor, or as many of an iterable as memory allows.
        seed: Of the places of feature maps that count, and of stochastic rounding.
        on_progress: Called with the share done, 0 to 1, and the weight that is next.

    Returns:
        What was done to every weight, and what is left of the network's outputs.

    Raises:
        CompressError: No such method, a weight is not finite, or the budget is out of reach.
        CalibrationError: The calibration inputs do not fit the network; AttachError, TraceError: nor does the network.

    Example:
        >>> network = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4))
        >>> compress(network, torch.randn(64, 8), bits=4).method
        'obq'
    """
    if not 0 <= zeros < 1:
        raise CompressError(f"zeros must be at least 0 and below 1, found {zeros!r}")
    if budget is not None and zeros:
        raise CompressError("zeros in every weight and a budget contradict each other; give one of them")
    if bits is None and (budget is None or budget.kind == "sparsity"):
        bits = KEPT_BITS
    prunes = bool(zeros) or budget is not None
    plain = bits == KEPT_BITS and not prunes
    method = method or ("rounding" if plain else "exact_obs" if prunes else "obq")
    correct = not plain if correct is None else correct
    if method not in METHODS:
        raise CompressError(f"method must be one of {', '.join(METHODS)}, found {method!r}")
    equalise = equalise or ("rows" if granularity == "tensor" else "none")
    if equalise not in EQUALISE:
        raise CompressError(f"equalise must be one of {', '.join(EQUALISE)}, found {equalise!r}")
    broken = next((name for name, tensor in model.state_dict().items() if not bool(tensor.isfinite().all())), None)
    if broken is not None:
        raise CompressError(f"{broken} has NaN or infinite entries; load the network's trained weights first")
    tensors, names = split_inputs(model, collect_calibration(calibration, count=count))
    total = len(tensors[0])
    held = tuple(tensor[total - max(1, total // HELD) :] for tensor in tensors)
    if total > 1:  # one input has to do for both
        tensors = tuple(tensor[: total - len(held[0])] for tensor in tensors)
    reference = copy.deepcopy(model).eval()
    original = reference if equalise == "none" and not absorb else copy.deepcopy(reference)
    exported = trace(original, tuple(tensor[:2] for tensor in tensors), names)
    first_names = {id(parameter): name for name, parameter in original.named_parameters()}
    aliases = {name: first_names[id(p)] for name, p in original.named_parameters(remove_duplicate=False)}
    equalised = Equalised({}, {})
    if original is not reference:
        equalised = find_equalised(
            exported, _batches(tensors), by=equalise, absorb=absorb, rows=granularity == "tensor" and equalise != "none"
        )
        _write(original, equalised.tensors)  # which are the traced network's tensors too
    before = _read(model, equalised.tensors)

    attach(model, bits or KEPT_BITS, granularity=granularity, exclude=exclude, overrides=overrides)
    weights: dict[str, QuantizedWeight] = {}
    for weight in quantized_weights(model):
        weights.setdefault(aliases[weight.name], weight)
    folded = {aliases[name]: channels for name, channels in folded_channels(exported).items() if name in aliases}
    first = {aliases.get(name, name) for name in _first_layers(exported)}
    given = {aliases[name] for name in _given(model, overrides)}
    kept = Kept(first, given, none=not keep or plain or bits is None)
    try:
        _take(model, weights, aliases, equalised.tensors)
        allocation = None
        if budget is not None:

            def bits_of(name: str, columns: int | None) -> tuple[int, ...]:
                if bits is None and name not in given:
                    return BITS
                return (KEPT_BITS if kept.reason(name, columns) else weights[name].quantizer.bit_width(),)

            sensitivities = measure(
                exported,
                original,
                tensors,
                names,
                weights,
                aliases,
                bits_of,
                compensated=method != "rounding",
                seed=seed,
                on_progress=lambda share, detail: on_progress(MEASURING * share, detail),
            )
            allocation = _allocate(budget, sensitivities, original, tensors, weights)
        frontier = () if allocation is None else allocation.frontier()
        decisions = Decisions(weights, method, zeros, kept, folded, allocation, seed)
        began = 0.0 if allocation is None else MEASURING
        # Rounding alone asks nothing of inputs: then the walk only measures what is left of every layer.
        walked_inputs = tensors if correct or method != "rounding" else held
        walked = walk(
            exported,
            _batches(walked_inputs),
            {alias: name for alias, name in aliases.items() if name in weights},
            decisions,
            correct=correct,
            seed=seed,
            on_progress=lambda share, detail: on_progress(began + (1 - began) * share, detail),
        )
        _take(model, weights, aliases, walked.tensors)
        for name, weight in weights.items():
            if name not in decisions.rows:  # no output reads it
                weight.original.data.copy_(decisions(name, None, list))
    except BaseException:
        for weight in list(quantized_weights(model)):  # as it came
            remove_quantizer(weight)
        _write(model, before)
        raise
    encodings = encode(model)
    layers = tuple(
        row.finished(encodings[row.name], walked.powers.get(name), walked.elsewhere.get(name, ""))
        for name, row in decisions.rows.items()
    )
    return CompressReport(
        method=method,
        bits=bits,
        granularity=granularity,
        inputs=len(tensors[0]),
        held_inputs=len(held[0]),
        weights=layers,
        output_decibels=_compare(reference, model, held, names),
        equalisation=None if original is reference else equalised.report(_compare(reference, original, held, names)),
        budget=None if allocation is None else allocation.outcome(),
        frontier=frontier,
    )


def _allocate(
    budget: Budget,
    sensitivities: Mapping[str, Sensitivity],
    original: nn.Module,
    tensors: tuple[Tensor, ...],
    weights: Mapping[str, QuantizedWeight],
) -> Allocation:
    """Divide a budget; what stays float costs what it costs."""
    # Without a cost summary, what it would list is not known: weights that have no quantizer are left out.
    macs: dict[str, int] = {}
    floats: dict[str, int] = {}
    if len(tensors) == 1 and tensors[0].is_floating_point():
        layers = summary(original, tuple(tensors[0].shape[1:])).layers
        macs = {layer.name: layer.macs for layer in layers}
        floats = {layer.name: layer.numel for layer in layers if layer.name not in weights}
    elif budget.kind == "bops":
        raise CompressError("bit operations are counted for one float input; ask for zeros or bytes")
    numel = sum(item.numel for item in sensitivities.values()) + sum(floats.values())
    fixed = {
        "sparsity": float(sum(floats.values())),
        "bops": float(sum(macs.get(name, 0) for name in floats)) * FLOAT_BITS**2,
        "size": sum(floats.values()) * FLOAT_BITS / 8,
    }
    unit = {"sparsity": float(numel), "bops": float(sum(macs.values())) * FLOAT_BITS**2, "size": 1.0}
    return Allocation(budget, sensitivities, macs, fixed=fixed[budget.kind], unit=unit[budget.kind])


def _batches(tensors: tuple[Tensor, ...]) -> list[tuple[Tensor, ...]]:
    """Cut inputs into batches."""
    starts = range(0, len(tensors[0]), BATCH_SIZE)
    return [tuple(tensor[start : start + BATCH_SIZE] for tensor in tensors) for start in starts]


def _compare(
    original: nn.Module, model: nn.Module, held: tuple[Tensor, ...], names: tuple[str, ...]
) -> tuple[float, ...]:
    """Measure what is left of each output, in dB: signal to noise against the float network on held inputs."""
    powers: dict[str, Power] = {}
    for batch in _batches(held):
        add_powers(powers, float_outputs(original, batch, names), float_outputs(model, batch, names))
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


def _read(model: nn.Module, names: Iterable[str]) -> dict[str, Tensor]:
    """Copy tensors of a network."""
    tensors = model.state_dict()
    return {name: tensors[name].clone() for name in names}


@torch.no_grad()
def _write(model: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Give tensors of a network new values, in place."""
    targets = model.state_dict()
    for name, value in tensors.items():
        targets[name].copy_(value)


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
