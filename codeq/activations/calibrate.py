"""Calibrate a traced network: run inputs through it in float and choose a grid for every quantized tensor."""

import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.export import ExportedProgram
from torch.fx import Node

from codeq.activations.encoding import ActivationEncoding
from codeq.activations.methods import Method
from codeq.activations.plan import ActivationPlan
from codeq.activations.ranges import RangeObserver
from codeq.errors import CalibrationError, first_line
from codeq.graph.autocast import autocast_off
from codeq.graph.nodes import GraphRunner
from codeq.graph.operators import CLAMPS

BATCH_SIZE = 4


def calibrate(
    exported: ExportedProgram,
    plan: ActivationPlan,
    inputs: tuple[Tensor, ...],
    method: Method = "mse",
    *,
    tensors: Mapping[str, Tensor] | None = None,
    batch_size: int = BATCH_SIZE,
) -> dict[str, ActivationEncoding]:
    """Choose scale and zero point of every quantized tensor. An autocast around the call is switched off.

    Args:
        exported: The network, activations in float.
        plan: Which of its values are quantized.
        inputs: Calibration inputs, batch first, in the order of the network's arguments.
        method: "min-max" takes the whole observed range, "percentile" cuts off its extremes, "mse" takes the range of
            least squared error.
        tensors: Parameters and buffers by name, where they are not the traced ones.
        batch_size: Inputs per run.

    Returns:
        Name of a quantized tensor, as in the plan, to its grid.

    Raises:
        CalibrationError: No inputs; NaN, or values that no grid can hold, somewhere.
    """
    observers = observe(exported, plan, inputs, tensors=tensors, batch_size=batch_size)
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
    """Collect what every quantized tensor takes as values, by the name of its grid; arguments as in `calibrate`.

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


def _check_inputs(exported: ExportedProgram, inputs: tuple[Tensor, ...]) -> None:
    wanted = [node for node in exported.graph.nodes if node.op == "placeholder" and not node.meta["constant"]]
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


def load_calibration(path: Path, input_shape: tuple[int, ...], dtype: torch.dtype = torch.float32) -> Tensor:
    """Read calibration inputs: an .npz file with one array `(N, *input_shape)`, preprocessed as in training.

    Args:
        path: The file.
        input_shape: Shape of one input without its batch dimension.
        dtype: What the network takes: float32, or int64 or int32 token ids.

    Raises:
        CalibrationError: Missing, no such file, another shape or dtype, no inputs, NaN or infinite values.
    """
    if not path.is_file():
        raise CalibrationError(f"{path}: no such file")
    if not zipfile.is_zipfile(path):
        raise CalibrationError(f"{path}: is not an .npz file of plain arrays (numpy.savez)")
    try:
        with path.open("rb") as file:
            content = np.load(file, allow_pickle=False)
            arrays = {name: content[name] for name in content.files}
    except (ValueError, OSError, EOFError, zipfile.BadZipFile, zlib.error, KeyError) as error:
        raise CalibrationError(f"{path}: is not an .npz file of plain arrays ({first_line(error)})") from error
    if len(arrays) != 1:
        raise CalibrationError(f"{path}: holds {len(arrays)} arrays, expected one of inputs")
    ((name, array),) = arrays.items()
    wanted = str(dtype).removeprefix("torch.")
    expected = f"{wanted} (N, {', '.join(map(str, input_shape))})"
    if array.dtype != np.dtype(wanted) or array.shape[1:] != input_shape or array.ndim == 0:
        raise CalibrationError(f"{path}: {name!r} is {array.dtype} {array.shape}, expected {expected}")
    if not len(array):
        raise CalibrationError(f"{path}: {name!r} holds no inputs, expected {expected}")
    if not np.isfinite(array).all():
        first = int(np.flatnonzero(~np.isfinite(array.reshape(len(array), -1)).all(1))[0])
        raise CalibrationError(f"{path}: input {first} of {name!r} has NaN or infinite values")
    return torch.from_numpy(array)
