"""Calibrate a traced network: run inputs through it in float and choose a grid for every quantized tensor."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.export import ExportedProgram
from torch.fx import Node

from codeq.activations.encoding import ActivationEncoding
from codeq.activations.methods import Method
from codeq.activations.plan import ActivationPlan
from codeq.activations.ranges import RangeObserver
from codeq.data.collect import CalibrationInputs, collect_calibration
from codeq.errors import CalibrationError
from codeq.graph.autocast import autocast_off
from codeq.graph.nodes import GraphRunner
from codeq.graph.operators import CLAMPS

BATCH_SIZE = 4


def calibrate(
    exported: ExportedProgram,
    plan: ActivationPlan,
    inputs: CalibrationInputs,
    method: Method = "mse",
    *,
    tensors: Mapping[str, Tensor] | None = None,
    batch_size: int = BATCH_SIZE,
) -> dict[str, ActivationEncoding]:
    """Choose scale and zero point of every quantized tensor. An autocast around the call is switched off.

    Args:
        exported: The network, activations in float.
        plan: Which of its values are quantized.
        inputs: What `collect_calibration` takes: calibration inputs, batch first, in the order of the network's
            arguments or by their names.
        method: "min-max" takes the whole observed range, "percentile" cuts off its extremes, "mse" takes the range of
            least squared error.
        tensors: Parameters and buffers by name, where they are not the traced ones.
        batch_size: Inputs per run.

    Returns:
        Name of a quantized tensor, as in the plan, to its grid.

    Raises:
        CalibrationError: No inputs; NaN, or values that no grid can hold, somewhere.
    """
    wanted = [node.name for node in _arguments(exported)]
    given = collect_calibration(inputs, arity=len(wanted), names=wanted)
    if isinstance(given, Mapping):
        if set(given) != set(wanted):
            raise CalibrationError(f"calibration gives {', '.join(given)}, the network takes {', '.join(wanted)}")
        given = tuple(given[name] for name in wanted)
    given = (given,) if isinstance(given, Tensor) else given
    observers = observe(exported, plan, given, tensors=tensors, batch_size=batch_size)
    return choose_grids(plan, observers, method)


@torch.no_grad()
@autocast_off()
def observe(
    exported: ExportedProgram,
    plan: ActivationPlan,
    inputs: tuple[Tensor, ...],
    *,
    tensors: Mapping[str, Tensor] | None = None,
    batch_size: int = BATCH_SIZE,
) -> dict[str, RangeObserver]:
    """Collect what every quantized tensor takes as values, by the name of its grid.

    Arguments are as in `calibrate`, but inputs a tuple in the order of the network's arguments.

    Raises:
        CalibrationError: No inputs, or NaN somewhere.
    """
    count = inputs[0].shape[0] if inputs and inputs[0].ndim else 0
    if count == 0:
        raise CalibrationError("calibration needs at least one input, found none")
    _check_inputs(exported, inputs)
    clamped = {plan.grids[name] for node, name in plan.tensors.items() if _is_from_zero(node)}
    observers = {grid: RangeObserver(grid, from_zero=grid in clamped) for grid in dict.fromkeys(plan.grids.values())}

    def on_value(node: Node, value: Any) -> Any:
        name = plan.tensors.get(node)
        if name is not None:
            observers[plan.grids[name]].observe(value)
        return value

    runner = GraphRunner(exported, on_value)
    for start in range(0, count, batch_size):
        runner.compute(tuple(tensor[start : start + batch_size] for tensor in inputs), tensors)
    return observers


def choose_grids(
    plan: ActivationPlan, observers: Mapping[str, RangeObserver], method: Method
) -> dict[str, ActivationEncoding]:
    """Choose the grid of every quantized tensor from what was collected.

    Raises:
        CalibrationError: Values that no grid can hold.
    """
    encodings = {grid: observer.encoding(method) for grid, observer in observers.items()}
    return {name: encodings[grid] for name, grid in plan.grids.items()}


def _is_from_zero(node: Node) -> bool:
    return node.target in CLAMPS and CLAMPS[node.target](node)[0] == 0


def _arguments(exported: ExportedProgram) -> list[Node]:
    return [node for node in exported.graph.nodes if node.op == "placeholder" and not node.meta["constant"]]


def _check_inputs(exported: ExportedProgram, inputs: tuple[Tensor, ...]) -> None:
    wanted = _arguments(exported)
    if len(inputs) != len(wanted):
        raise CalibrationError(f"calibration gives {len(inputs)} inputs, the network takes {len(wanted)}")
    for node, x in zip(wanted, inputs, strict=True):
        value = node.meta["val"]
        if x.dtype != value.dtype or x.shape[1:] != value.shape[1:] or len(x) != len(inputs[0]):
            expected = f"{value.dtype} (N, {', '.join(map(str, value.shape[1:]))})"
            raise CalibrationError(
                f"calibration input {node.name!r} is {x.dtype} {tuple(x.shape)}, expected {expected}"
            )
    floats = [x for x in inputs if x.is_floating_point()]
    if floats and not any(bool(x.any()) for x in floats):
        raise CalibrationError("every calibration input is zero; calibrate with inputs like those that are to come")
