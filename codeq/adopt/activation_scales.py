"""Read the scales of another tool's activation quantizers, by the names that our activations go by.

    x -> FakeQuantize(scale, zero_point, 0, 255) -> reader        becomes        name of x: scale, zero_point

One scale and zero point on 256 codes are our grid: taken over they are the same numbers, so that no code changes.
Codes from -128 to 127 are those from 0 to 255 with a zero point that is 128 higher.
"""

import copy
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.fx import Node

from codeq.activations.encoding import QUANT_MAX, ActivationEncoding
from codeq.activations.moves import roots
from codeq.activations.plan import ActivationPlan, plan_activations
from codeq.errors import AttachError, TraceError
from codeq.graph.canonical import canonicalize, merge_equal, refuse_writes
from codeq.graph.inputs import Inputs, split_inputs
from codeq.graph.nodes import replace_node, state_name
from codeq.graph.operators import CLAMPS
from codeq.graph.trace import trace
from codeq.quantizer.attach import detach, quantized_weights
from codeq.quantizer.fake_quantized import TakenQuantizer
from codeq.toolkit.table import format_count

MARK = torch.ops.codeq.mark.default


@dataclass(frozen=True)
class Scales:
    """Holds what was read.

    Attributes:
        encodings: By the names that `codeq.save` and the exporters know; None where one is missing.
        notes: What is missing or left out, one line each.
    """

    encodings: Mapping[str, ActivationEncoding] | None = None
    notes: tuple[str, ...] = ()


def read_scales(model: nn.Module, quantizers: Sequence[TakenQuantizer], example_inputs: Inputs) -> Scales:
    """Read the scales of activation quantizers that `make_plain` took out.

    Args:
        model: Attached, with `Passed` in their places.
        quantizers: What `make_plain` returned.
        example_inputs: One small batch.

    Raises:
        TraceError: torch.export refuses the network.
    """
    if not quantizers:
        return Scales()
    notes = []
    for quantizer in quantizers:
        try:
            encoding = encoding_of(quantizer.original)
            quantizer.passed.grid = (encoding.scale, encoding.zero_point)
        except ValueError as error:
            notes.append(f"{quantizer.name}: {error}")
    plan, marks = _plan(model, example_inputs)
    found: dict[str, ActivationEncoding] = {}
    unused = 0
    # What is quantized itself comes before what a relu behind it is read as.
    for node, grid in sorted(marks, key=lambda pair: _behind_relu(pair[0], plan) is not pair[0]):
        names = [plan.tensors[root] for root in roots(_behind_relu(node, plan)) if root in plan.tensors]
        unused += not names
        for name in names:
            first = found.setdefault(plan.grids[name], grid)
            if first != grid:
                notes.append(f"{name}: has two scales, {first.scale:.3g} and {grid.scale:.3g}; the first is taken")
    if unused:
        count = format_count(unused, "activation quantizer")
        notes.append(f"{count} left out: of values that files keep in float, outputs above all")
    missing = [name for name, grid in plan.grids.items() if grid not in found]
    if missing:
        text = ", ".join(missing[:3]) + (", ..." if len(missing) > 3 else "")
        notes.append(
            f"no usable scale for {text}: {len(missing)} of {len(plan.grids)} activations; calibrate all of them"
        )
        return Scales(None, tuple(notes))
    return Scales({name: found[grid] for name, grid in plan.grids.items()}, tuple(notes))


def _behind_relu(node: Node, plan: ActivationPlan) -> Node:
    """The relu that alone reads a value: on one grid, whose zero is a code, it makes no difference which is rounded."""
    reader = next(iter(node.users), None)
    is_relu = reader is not None and reader.target in CLAMPS and CLAMPS[reader.target](reader) == (0, math.inf)
    if len(node.users) == 1 and is_relu and node not in plan.tensors and reader in plan.tensors:
        assert reader is not None
        return reader
    return node


def encoding_of(quantizer: nn.Module) -> ActivationEncoding:
    """Read the grid of a FakeQuantize module.

    Raises:
        ValueError: It is none of ours; the message says why.
    """
    if callable(getattr(quantizer, "scale", None)) and callable(getattr(quantizer, "bit_width", None)):
        return _encoding_of_brevitas(quantizer)
    if not any(kind.__name__ in ("FakeQuantizeBase", "FakeQuantizerBase") for kind in type(quantizer).__mro__):
        raise ValueError("an observer, which has seen values but quantizes none")
    config: Any = getattr(quantizer, "config", None)
    if getattr(config, "is_dynamic", False) or not isinstance(getattr(quantizer, "scale", None), Tensor):
        raise ValueError("its scale is computed anew for every input")
    enabled = getattr(quantizer, "fake_quant_enabled", None)
    if (isinstance(enabled, Tensor) and not bool(enabled[0])) or getattr(quantizer, "enabled", True) is False:
        raise ValueError("it is switched off")
    return _encoding(quantizer.scale, getattr(quantizer, "zero_point", 0), *_code_range(quantizer))


def _encoding_of_brevitas(quantizer: Any) -> ActivationEncoding:
    """Read the proxy of an activation quantizer: scale, zero point and bits are calls."""
    scale, bits = quantizer.scale(), quantizer.bit_width()
    if scale is None or bits is None:
        raise ValueError("it has no scale of its own")
    count = 2 ** round(float(bits))
    low = -count // 2 if quantizer.is_signed else 0
    return _encoding(scale, quantizer.zero_point(), low + bool(quantizer.is_narrow_range), low + count - 1)


def _encoding(scale: Any, zero_point: Any, low: int, high: int) -> ActivationEncoding:
    if scale.numel() != 1:
        raise ValueError(f"{scale.numel()} scales, expected one per tensor")
    if (low, high) not in ((0, QUANT_MAX), (-128, 127)):
        raise ValueError(f"codes from {low} to {high}, expected 0 to {QUANT_MAX} or -128 to 127")
    return ActivationEncoding(float(scale), round(float(zero_point)) - low)


def _code_range(quantizer: nn.Module) -> tuple[int, int]:
    # FakeQuantize computes with its observer's limits.
    holder: Any = getattr(quantizer, "activation_post_process", quantizer)
    low, high = getattr(holder, "quant_min", None), getattr(holder, "quant_max", None)
    if low is None or high is None:
        dtype = str(getattr(getattr(quantizer, "config", None), "dtype", None))
        low, high = {"torch.uint8": (0, QUANT_MAX), "torch.int8": (-128, 127)}.get(dtype, (0, 0))
    return int(low), int(high)


def _plan(model: nn.Module, example_inputs: Inputs) -> tuple[ActivationPlan, list[tuple[Node, ActivationEncoding]]]:
    """Plan the network without marks; and the node that each mark stood behind."""
    tensors, names = split_inputs(model, example_inputs)
    integer = {weight.name for weight in quantized_weights(model) if weight.quantizer.grid == "integer"}
    plain = detach(copy.deepcopy(model)).eval()
    with torch.no_grad():
        exported = trace(plain, tensors, names)
    canonicalize(exported)
    merge_equal(exported)
    refuse_writes(exported)
    marks = []
    for node in list(exported.graph.nodes):
        if node.target is MARK:
            source, scale, zero_point = node.args[:3]
            assert isinstance(source, Node)
            marks.append((source, ActivationEncoding(float(scale), int(zero_point))))
            replace_node(exported, node, source)

    def refuse_weight(node: Node) -> str:
        return "" if state_name(exported, node) in integer else "its weight is not quantized"

    try:
        return plan_activations(exported, refuse_weight, absorb_batch_norm=True), marks
    except AttachError as error:
        raise TraceError(str(error)) from error
