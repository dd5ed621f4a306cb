"""Compress a trained float network without training: codes for every weight, chosen with a few inputs.

    float network + inputs  ->  attach  ->  layer by layer: range, codes, corrections  ->  frozen quantizers

The result is an attached network as training would leave it: `codeq.save`, the exporters and the cost summary take it.
"""

import copy
from collections.abc import Callable, Iterable, Mapping, Sequence
from os import PathLike
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import ExportedProgram

from codeq.activations.learned_step import QuantizedActivations
from codeq.activations.moves import roots
from codeq.channels.kernel_times import KernelTimes, read_kernel_times
from codeq.channels.shrink import shrink
from codeq.channels.spaces import find_spaces
from codeq.compress.advice import advise
from codeq.compress.allocation import Allocation
from codeq.compress.columns import layer_of
from codeq.compress.dead_channels import choose_channels
from codeq.compress.decide import KEPT_BITS, Decisions, Kept
from codeq.compress.distill import distill as distill_network
from codeq.compress.equalise import Equalised
from codeq.compress.equalise import equalise as find_equalised
from codeq.compress.fit import answer, check_network
from codeq.compress.folded import folded_channels
from codeq.compress.layer_by_layer import Walked, walk
from codeq.compress.names import ACTIVATIONS, EQUALISE
from codeq.compress.pick import METHODS
from codeq.compress.report import ChannelsOutcome, CompressReport
from codeq.compress.sensitivity import BITS, Sensitivity, measure
from codeq.cost import FLOAT_BITS, summary
from codeq.data.collect import CalibrationInputs, collect_calibration
from codeq.data.network_inputs import data_arguments, known_arity
from codeq.errors import CalibrationError, CompressError
from codeq.graph.inputs import Inputs, join_inputs, split_inputs
from codeq.graph.nodes import is_constant, state_name
from codeq.graph.trace import trace
from codeq.quantizer.attach import QuantizedWeight, attach, encode, quantized_weights, remove_quantizers
from codeq.quantizer.choices import MAX_BITS, MIN_BITS
from codeq.quantizer.classes import Classes
from codeq.quantizer.outputs import add_powers, float_outputs
from codeq.quantizer.power import Power
from codeq.quantizer.signal import BATCH_SIZE
from codeq.toolkit.patterns import matches
from codeq.training.budget import Budget

HELD = 8
"""One in so many inputs is held back, and the result judged on these alone."""
ONE_BIT = "spfq_sign"
TABLES = ("sqs", ONE_BIT)
"""Methods whose codes are fewer than their grid has."""
CHOOSING = 0.3
"""Share of the progress that choosing codes counts where they are distilled afterwards."""
PLAIN_BITS = 7
"""From so many bits on plain rounding leaves little to gain and no layer has to keep 8: EfficientNet-Lite0 has 87.6 %
at 8 bits and 87.5 % at 7. Codes of 7 bits saturate in no kernel of x86, so that files need no session option."""
CORRECTING = 32
"""At 7 and 8 bits so many inputs correct biases and statistics: EfficientNet-Lite0 keeps 18.7 dB without, 26.3 with 32,
26.9 with 64 and 27.2 with 128, for 2, 3 and 5 times the time."""
MEASURING = 0.3
"""Share of the progress that measuring sensitivities counts."""


@torch.inference_mode(False)
@torch.enable_grad()
def compress(
    model: nn.Module,
    calibration: CalibrationInputs,
    *,
    bits: int | None = None,
    zeros: float = 0.0,
    budget: Budget | None = None,
    macs: float | None = None,
    latency: float | None = None,
    kernel_times: KernelTimes | str | PathLike[str] | None = None,
    method: str | None = None,
    granularity: str = "channel",
    correct: bool = True,
    equalise: str | None = None,
    absorb: bool = False,
    keep: bool = True,
    exclude: str | Iterable[str] = (),
    overrides: Mapping[str, Mapping[str, Any]] | None = None,
    count: int | None = None,
    activations: str = "float",
    distill: int = 0,
    distill_inputs: CalibrationInputs | None = None,
    seed: int = 0,
    on_progress: Callable[[float, str], None] = lambda share, detail: None,
) -> CompressReport:
    """Attach quantizers to a trained network and choose all codes, in place.

    Args:
        model: A float network in whatever mode; it is run in eval mode.
        calibration: Inputs as the network will get them: a tensor, an array, a tuple or a mapping of several, a
            DataLoader or any iterable of batches. Labels are left out, also "labels" of a mapping, unless the network
            cannot be called without them.
        bits: 2 to 8, of every weight that is not kept; not with "spfq_sign", which has one. None is 8; under a budget
            of bit operations or bytes it is for each weight what the budget is best spent on.
        zeros: Share of zeros in every weight that is not kept, in [0, 1): the dead zone is as wide as that needs.
        budget: What the network may cost instead: zeros, and bits where they are open, go where they cost the outputs
            least, by what is measured of each weight (sensitivity.py, allocation.py).
        macs: Share of the multiply-adds that is left once channels have died, in (0, 1): those that the others make up
            for best, for what they cost (dead_channels.py); exports leave them out. Not with a budget.
        latency: Likewise of what the int8 file takes, by `kernel_times`.
        kernel_times: A table that was measured where the network will run (runtime_tests/kernel_times.py), or its file.
        method: One of `METHODS`; None takes "rounding" at 7 and 8 bits without `zeros`, where little is left to
            gain, "exact_obs" with `zeros`, and "obq" else. At 8 bits without `zeros` layers are rounded whatever it
            says.
        granularity: As for `attach`.
        correct: Correct biases, and re-estimate the statistics of BatchNorms (Nagel et al. 2019, arXiv:1906.04721,
            section 4.2; layer_by_layer.py); where layers are rounded with `CORRECTING` inputs.
        equalise: Scale channels first, so that one range serves them all better (equalise.py); what the float network
            computes stays, bit for bit. "rows" scales rows in front of BatchNorms, "weights" and "activations" channels
            between layers, and rows too where a weight has one range. None takes "rows" there, and "none" elsewhere.
            "activations" is for LayerNorms with a few channels much larger than the others.
        absorb: Let what reads a channel take up the part of its bias that the relu in between hardly ever cuts, which
            changes the float network a little. No network that was measured has such biases.
        keep: Below 7 bits, leave at 8, and without more zeros than rounding gives, the layers that read an input of the
            network and those whose outputs read few values (`FEW_INPUTS` of columns.py); an override has the last word.
        exclude, overrides: As for `attach`.
        count: Inputs to take; None takes all of a tensor, or as many of an iterable as memory allows.
        activations: "int8" chooses the scales of activations too, on the calibration inputs: outputs are then judged
            with them, and the report holds them for `codeq.save`. With "float" the exporters choose them.
        distill: Epochs of training towards the float network's outputs (distill.py); zeros stay. What is best on the
            held inputs is kept.
        distill_inputs: Further inputs to train on; None takes the calibration inputs alone.
        seed: Of the places of feature maps that count, of stochastic rounding, and of the order of training.
        on_progress: Called with the share done, 0 to 1, and the weight that is next.

    Returns:
        What was done to every weight, and what is left of the network's outputs.

    Raises:
        CompressError: No such method or bits, a weight is not finite, the budget is out of reach, or a table that
            training would lose.
        CalibrationError: Fewer than two calibration inputs, or such as differ, hold NaN, or make the network answer
            NaN.
        AttachError: It has quantizers already, or no layer to quantize.
        KernelTimesError: The table cannot be read, or is of another network.
        TraceError: It cannot be called with the inputs, or has no graph.

    Examples:
        >>> network = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4))
        >>> compress(network, torch.randn(64, 8), bits=4).method
        'obq'
    """
    if bits is not None and not (isinstance(bits, int) and MIN_BITS <= bits <= MAX_BITS):
        raise CompressError(f"bits must be {MIN_BITS} to {MAX_BITS}, or None, found {bits!r}")
    exclude = exclude if isinstance(exclude, str) else tuple(exclude)
    if not 0 <= zeros < 1:
        raise CompressError(f"zeros must be at least 0 and below 1, found {zeros!r}")
    if budget is not None and budget.kind == "pointwise_sparsity":
        raise CompressError("zeros of 1x1 convolutions alone are a budget of training; give one of all weights")
    if budget is not None and zeros:
        raise CompressError(
            "zeros in every weight (--zeros) and a budget (--sparsity, --bops, --size) contradict each other; give one "
            "of them"
        )
    for name, asked in (("macs", macs), ("latency", latency)):
        if asked is not None and not 0 < asked < 1:
            raise CompressError(f"{name} must be above 0 and below 1, found {asked!r}")
    left = macs if latency is None else latency
    if left is not None and budget is not None:
        raise CompressError("multiply-adds or latency to be left and a budget contradict each other; give one of them")
    if macs is not None and latency is not None:
        raise CompressError("multiply-adds and latency to be left contradict each other; give one of them")
    if (latency is None) != (kernel_times is None):
        raise CompressError(
            "latency and kernel_times go together; python -m runtime_tests.kernel_times measures a table"
        )
    if kernel_times is not None and not isinstance(kernel_times, KernelTimes):
        kernel_times = read_kernel_times(kernel_times)
    prunes = bool(zeros) or budget is not None
    if method == ONE_BIT:
        if bits is not None or prunes:
            raise CompressError(f"{ONE_BIT} gives every weight one bit and no zeros; leave bits, zeros and budgets out")
        bits = MIN_BITS  # of the grid, which has no zero then
    if bits is None and (budget is None or budget.kind == "sparsity"):
        bits = KEPT_BITS
    plain = not prunes and bits is not None and bits >= (PLAIN_BITS if method in (None, "rounding") else KEPT_BITS)
    method = method or ("rounding" if plain else "exact_obs" if prunes else "obq")
    if method not in METHODS:
        raise CompressError(f"method must be one of {', '.join(METHODS)}, found {method!r}")
    equalise = equalise or ("rows" if granularity == "tensor" else "none")
    if equalise not in EQUALISE:
        raise CompressError(f"equalise must be one of {', '.join(EQUALISE)}, found {equalise!r}")
    if activations not in ACTIVATIONS:
        raise CompressError(f"activations must be {' or '.join(ACTIVATIONS)}, found {activations!r}")
    if isinstance(distill, bool) or not isinstance(distill, int) or distill < 0:
        raise CompressError(f"distill must be a number of epochs, found {distill!r}")
    if distill and method in TABLES:
        raise CompressError(f"distillation would lose what {method} chooses from; take another method, or distill=0")
    check_network(model)
    collected = collect_calibration(calibration, count=count, arity=known_arity(model), names=data_arguments(model))
    tensors, names = split_inputs(model, collected)
    total = len(tensors[0])
    if total < 2:
        raise CalibrationError("calibration is one input, which cannot choose codes and judge them; give some dozens")
    are_alike = all(bool((tensor == tensor[:1]).all()) for tensor in tensors)
    held = tuple(tensor[total - max(1, total // HELD) :] for tensor in tensors)
    tensors = tuple(tensor[: total - len(held[0])] for tensor in tensors)
    trained = tensors
    if distill_inputs is not None and distill:
        more = collect_calibration(distill_inputs, arity=known_arity(model), names=data_arguments(model))
        trained = _join(tensors, split_inputs(model, more))
    reference = copy.deepcopy(model).eval()
    original = reference if equalise == "none" and not absorb else copy.deepcopy(reference)
    wanted = answer(reference, _batches(held), names, first=total - len(held[0]))
    if are_alike:
        raise CalibrationError(f"calibration is {total} times the same input, which says nothing of others")
    if not all(tensor.is_floating_point() for tensor in tensors):  # ids may lie outside a table: only a call tells
        answer(reference, _batches(tensors), names)
    exported = trace(original, tuple(tensor[:2] for tensor in tensors), names)
    first_names = {id(parameter): name for name, parameter in original.named_parameters()}
    aliases = {name: first_names[id(p)] for name, p in original.named_parameters(remove_duplicate=False)}
    equalised = Equalised({}, {})
    if original is not reference:
        equalised = find_equalised(
            exported, _batches(tensors), by=equalise, absorb=absorb, rows=granularity == "tensor" and equalise != "none"
        )
        _write(original, equalised.tensors)  # which are the traced network's tensors too

    attach(
        model,
        bits or KEPT_BITS,
        granularity=granularity,
        exclude=exclude,
        overrides=overrides,
        channels=left is not None,
    )
    weights: dict[str, QuantizedWeight] = {}
    for weight in quantized_weights(model):
        weights.setdefault(aliases[weight.name], weight)
    folded = {aliases[name]: channels for name, channels in folded_channels(exported).items() if name in aliases}
    first = {aliases.get(name, name) for name in _first_layers(exported)}
    given = {aliases[name] for name in _given(model, overrides)}
    kept = Kept(first, given, none=not keep or plain or bits is None)
    choosing = CHOOSING if distill else 1.0
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
                on_progress=lambda share, detail: on_progress(choosing * MEASURING * share, detail),
            )
            one = join_inputs(tuple(tensor[:1] for tensor in tensors), names)
            allocation = _allocate(budget, sensitivities, original, one, weights)
        live = {}
        if left is not None:
            spaces = find_spaces(model, join_inputs(tuple(tensor[:2] for tensor in tensors), names))
            spaces = spaces if kernel_times is None or not spaces.count else spaces.timed(kernel_times)
            chosen = choose_channels(
                spaces,
                left,
                exported,
                _batches(tensors),
                names,
                original,
                aliases,
                seed=seed,
                on_progress=lambda share, detail: on_progress(choosing * MEASURING * share, detail),
            )
            live = _let_live(weights, {aliases[name]: mask for name, mask in spaces.masks(chosen).items()})
        frontier = () if allocation is None else allocation.frontier()
        decisions = Decisions(weights, method, zeros, kept, folded, allocation, seed, live)
        began = MEASURING if allocation is not None or left is not None else 0.0
        # Rounding alone asks nothing of inputs: then the walk corrects, or only measures what is left of every layer.
        walked_inputs = tensors
        if not live and (plain or (method == "rounding" and not correct)):
            walked_inputs = tuple(tensor[:CORRECTING] for tensor in tensors) if correct else held
        readers = {alias: name for alias, name in aliases.items() if name in weights}
        walked = walk(
            exported,
            _batches(walked_inputs),
            readers,
            decisions,
            correct=correct,
            seed=seed,
            on_progress=lambda share, detail: on_progress(choosing * (began + (1 - began) * share), detail),
        )
        _take(model, weights, aliases, walked.tensors)
        for name, weight in weights.items():
            if name not in decisions.rows:  # no output reads it
                weight.original.data.copy_(decisions(name, None, list))
        network, distilled = model, None
        if activations == "int8":
            network = QuantizedActivations(model, join_inputs(tuple(tensor[:2] for tensor in tensors), names))
            network.calibrate(join_inputs(tensors, names))
        if distill:
            distilled = distill_network(
                network,
                original,
                trained,
                names,
                held=held,
                epochs=distill,
                seed=seed,
                on_progress=lambda share, detail: on_progress(choosing + (1 - choosing) * share, detail),
            )
            walked = _look_again(exported, held, readers, model)
    except BaseException:
        remove_quantizers(model)
        model.load_state_dict(reference.state_dict())
        raise
    encodings = encode(model)
    if allocation is not None:
        for name, weight in weights.items():
            encoding = encodings[weight.name]
            bits_read = decisions.rows[name].bits
            allocation.spend(name, bits_read, encoding.sparsity, encoding.entropy_bits() / 8)
    layers = tuple(
        row.finished(
            encodings[row.name], walked.powers.get(name), walked.alone.get(name), walked.elsewhere.get(name, "")
        )
        for name, row in decisions.rows.items()
    )
    decibels, classes = _compare(wanted, network, held, names)
    return CompressReport(
        method=method,
        bits=bits,
        granularity=granularity,
        inputs=len(tensors[0]),
        held_inputs=len(held[0]),
        weights=layers,
        output_decibels=decibels,
        classes=classes,
        equalisation=None if original is reference else equalised.report(_compare(wanted, original, held, names)[0]),
        budget=None if allocation is None else allocation.outcome(),
        frontier=frontier,
        distilled=distilled,
        activations=network.encodings() if isinstance(network, QuantizedActivations) else None,
        channels=None if left is None else _channels_outcome(left, kernel_times, model, tensors, names),
        advice=advise(original, granularity=granularity, exclude=exclude),
    )


def _let_live(weights: Mapping[str, QuantizedWeight], masks: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Let input channels of weights live, and give the columns of those that lose some, by name."""
    columns = {}
    for name, mask in masks.items():
        weight = weights[name]
        weight.quantizer.let_live(mask)
        if not bool(mask.all()):
            reads = weight.original.numel() // (len(mask) * weight.original.shape[weight.quantizer.axis])
            columns[name] = mask.repeat_interleave(reads)
    return columns


def _channels_outcome(
    left: float, times: KernelTimes | None, model: nn.Module, tensors: tuple[Tensor, ...], names: tuple[str, ...]
) -> ChannelsOutcome:
    few = join_inputs(tuple(tensor[:2] for tensor in tensors), names)
    small, report = shrink(model, few, fold_constants=False)
    return ChannelsOutcome(left, report, None if times is None else times.of_network(small))


def _join(tensors: tuple[Tensor, ...], more: tuple[tuple[Tensor, ...], tuple[str, ...]]) -> tuple[Tensor, ...]:
    """Put further inputs behind the calibration inputs."""
    found, wanted = (
        ", ".join(f"{str(tensor.dtype).removeprefix('torch.')} {tuple(tensor.shape[1:])}" for tensor in given)
        for given in (more[0], tensors)
    )
    if found != wanted:
        raise CompressError(f"inputs to distil on are {found}, the calibration inputs {wanted}")
    return tuple(torch.cat(pair) for pair in zip(tensors, more[0], strict=True))


def _look_again(
    exported: ExportedProgram, held: tuple[Tensor, ...], readers: Mapping[str, str], model: nn.Module
) -> Walked:
    """Measure what is left of every layer in a network whose weights are chosen, biases and BatchNorms too."""
    parameters: dict[str, Tensor] = dict(model.named_buffers(remove_duplicate=False))
    parameters |= dict(model.named_parameters(remove_duplicate=False))
    originals = {weight.name: weight.original.detach() for weight in quantized_weights(model)}
    return walk(exported, _batches(held), readers, lambda name, *_: originals[name], correct=False, start=parameters)


def _allocate(
    budget: Budget,
    sensitivities: Mapping[str, Sensitivity],
    original: nn.Module,
    one: Inputs,
    weights: Mapping[str, QuantizedWeight],
) -> Allocation:
    """Divide a budget; what stays float costs what it costs, and MACs are those of `one` input."""
    layers = summary(original, inputs=one).layers
    macs = {layer.name: layer.macs for layer in layers}
    floats = {layer.name: layer.numel for layer in layers if layer.name not in weights}
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
    wanted: Sequence[Mapping[str, Tensor]], model: nn.Module, held: tuple[Tensor, ...], names: tuple[str, ...]
) -> tuple[tuple[float, ...], Classes]:
    """Measure what is left of each output next to the float network on held inputs: dB, and other classes."""
    powers: dict[str, Power] = {}
    classes = Classes()
    for floats, batch in zip(wanted, _batches(held), strict=True):
        # In their order: a network whose activations are quantized has no names for them.
        found = dict(zip(floats, float_outputs(model, batch, names).values(), strict=True))
        add_powers(powers, floats, found)
        classes.add_outputs(floats, found)
    return tuple(power.decibels for power in powers.values()), classes


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
