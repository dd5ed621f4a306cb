"""Weights are compared bit for bit with those that the network's own forward pass computes with, and so is what a
quantized program adds to them: integer biases and scales.
"""

from collections.abc import Callable, Iterable, Mapping

import numpy as np
import torch
from torch import nn

from codeq.quantizer.attach import QuantizedWeight, quantized_weights
from export.errors import ExportError
from export.metadata import WeightMetadata
from export.parity.checks import WeightCheck
from export.program.names import codes_name, plain_name
from export.program.program import ReferenceProgram
from export.program.space_to_depth import rearranged_shape, restore_kernel


def check_weights(
    model: nn.Module,
    described: Iterable[WeightMetadata],
    judge: Callable[[QuantizedWeight, WeightMetadata], str],
) -> tuple[WeightCheck, ...]:
    """Hold every quantized weight of a network and of a file's metadata to each other.

    Args:
        model: The network.
        described: What the file says of its weights.
        judge: Compares one weight that both have; returns the reason where they differ, else an empty string.
    """
    left = {weight.name: weight for weight in described}
    checks = []
    for quantized in quantized_weights(model):
        about = left.pop(quantized.name, None)
        if about is None:
            checks.append(WeightCheck(quantized.name, None, False, "the file has no such weight"))
        else:
            reason = judge(quantized, about)
            checks.append(WeightCheck(about.name, about.batch_norm, not reason, reason))
    checks += [WeightCheck(name, None, False, "the network has no such quantized weight") for name in left]
    return tuple(checks)


def check_added(program: ReferenceProgram, stored: Mapping[str, np.ndarray]) -> tuple[WeightCheck, ...]:
    """Hold the integer biases, their scales and those of activations to the program's, bit for bit; what differs.

    A bias that is one step off, or a scale one bit, moves a code so seldom that held inputs may not show it.

    Args:
        program: With quantized activations.
        stored: Tensors of the file by name. What a file has under another name, for it equals another one, is held as
            that; a bias that the file keeps in float32 is held to its codes times their scale.
    """
    assert program.activations is not None
    tensors = program.exported.state_dict
    biases = [f"{layer.name}.bias" for layer in program.activations.layers]
    scales = [f"{name}_scale" for name in (*biases, *program.activations.encodings)]
    checks = []
    for name in (*map(codes_name, biases), *scales):
        if name not in tensors or name not in stored:
            continue
        expected, found = tensors[name].numpy(), stored[name]
        if expected.dtype == np.int32 and found.dtype == np.float32:
            bias = plain_name(name)
            expected = expected.astype(np.float32) * tensors[f"{bias}_scale"].numpy()
        if expected.dtype != found.dtype or not np.array_equal(expected.reshape(-1), found.reshape(-1)):
            checks.append(WeightCheck(name, None, False, "it is not what the network and the grids of the file give"))
    return tuple(checks)


def compare_weight(expected: np.ndarray, found: np.ndarray) -> str:
    """Compare bit for bit; an empty string where the two are equal, else the reason."""
    if found.dtype != np.float32 or found.shape != expected.shape:
        return f"is {found.dtype} {found.shape}, expected float32 {expected.shape}"
    # Comparing the bits; adding 0 makes the two zeros one.
    different = int(((found + 0.0).view(np.int32) != (expected + 0.0).view(np.int32)).sum())
    if different:
        worst = float(np.abs(found - expected).max())
        return f"{different} of {found.size} values differ from PyTorch's, by up to {worst:.3g}"
    return ""


def expected_weight(model: nn.Module, quantized: QuantizedWeight, weight: WeightMetadata) -> np.ndarray | str:
    """Compute what a file must hold for a weight, float32, or the reason why nothing could be right.

    Unfolded, the weight of the network's own forward pass. Folded, its codes times float32(scale * |f|); that the codes
    times the scale are the forward pass's weight is checked on the way.
    """
    forward = getattr(quantized.module, quantized.tensor_name).detach().numpy()
    if weight.batch_norm is None:
        return np.asarray(forward)
    try:
        encoding = quantized.quantizer.encode(quantized.original)
    except ValueError as error:
        raise ExportError(f"{weight.name}: {error}") from error
    if compare_weight(forward, encoding.dequantize().numpy()):
        return "the network's codes times their scale are not its weight"
    norm = dict(model.named_modules()).get(weight.batch_norm)
    if not isinstance(norm, nn.modules.batchnorm._BatchNorm) or norm.running_var is None:
        return f"the file names the BatchNorm {weight.batch_norm!r}, which the network has not"
    codes = encoding.codes.numpy().astype(np.float32)
    axis = weight.axis if weight.axis is not None else 0
    if not 0 <= axis < codes.ndim or codes.shape[axis] != norm.num_features:
        return f"has no {norm.num_features} channels on axis {axis}, as {weight.batch_norm!r} does"
    shape = [1] * codes.ndim
    shape[axis] = -1
    gamma = np.ones(norm.num_features) if norm.weight is None else norm.weight.detach().double().numpy()
    factors = (gamma / np.sqrt(norm.running_var.double().numpy() + norm.eps)).reshape(shape)
    codes = codes * np.sign(factors).astype(np.float32)
    scale = encoding.along_axis(encoding.scale).double().numpy()
    folded = codes * (scale * np.abs(factors)).astype(np.float32)
    if encoding.shift is not None:
        folded = folded + (float(encoding.shift) * np.abs(factors)).astype(np.float32) * np.sign(codes)
    return np.asarray(folded)


def stored_shape(shape: tuple[int, ...], weight: WeightMetadata) -> tuple[int, ...]:
    """Give the shape of a file's codes for a weight of `shape`."""
    return shape if weight.space_to_depth is None else rearranged_shape(shape, weight.space_to_depth)


def as_trained(found: np.ndarray, weight: WeightMetadata, shape: tuple[int, ...]) -> np.ndarray:
    """Bring a weight as a file holds it into the layout of its network."""
    if weight.space_to_depth is None or found.ndim != 4:
        return found
    kernel = restore_kernel(torch.from_numpy(found), weight.space_to_depth, shape)
    return found if kernel is None else kernel.numpy()
