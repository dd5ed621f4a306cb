"""These operators stand between integer codes and float values in a reference program."""

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from codeq.quantizer.attach import QuantizedWeight, remove_quantizer
from codeq.quantizer.grid import WeightEncoding


@torch.library.custom_op("codeq::dequantize", mutates_args=())
def dequantize(
    codes: Tensor, scale: Tensor, shift: Tensor | None, axis: int, zero_point: Tensor | None = None
) -> Tensor:
    """Compute (codes - zero_point) * scale, plus shift * sign(codes) where there is one: DequantizeLinear, then it.

    Args:
        codes: int8 weights, uint8 activations or an int32 bias.
        scale: float32, `()` or `(codes.shape[axis],)`.
        shift: None, or float32 that broadcasts against `codes`.
        axis: The channel axis of a per-channel scale; without meaning for `()`.
        zero_point: None for zero, or the dtype of `codes` and the shape of `scale`.

    Returns:
        float32, the shape of `codes`.
    """
    shape = [1] * codes.ndim
    if scale.ndim:
        shape[axis] = -1
    values = codes.float()
    if zero_point is not None:
        values = values - zero_point.float().reshape(shape)
    values = values * scale.reshape(shape)
    return values if shift is None else values + shift * codes.float().sign()


@dequantize.register_fake
def _(codes: Tensor, scale: Tensor, shift: Tensor | None, axis: int, zero_point: Tensor | None = None) -> Tensor:
    return torch.empty_like(codes, dtype=torch.float32)


@torch.library.custom_op("codeq::quantize", mutates_args=())
def quantize(x: Tensor, scale: Tensor, zero_point: Tensor) -> Tensor:
    """clip(rint(x / scale) + zero_point): ONNX QuantizeLinear, rint to even.

    Args:
        x: float32, any shape.
        scale: float32 `()`.
        zero_point: uint8 `()`.

    Returns:
        uint8, the shape of `x`.
    """
    return ((x / scale).round() + zero_point.float()).clamp(0, 255).to(torch.uint8)


@quantize.register_fake
def _(x: Tensor, scale: Tensor, zero_point: Tensor) -> Tensor:
    return torch.empty_like(x, dtype=torch.uint8)


@torch.library.custom_op("codeq::keep_float", mutates_args=())
def keep_float(x: Tensor) -> Tensor:
    """`keep_float` gives x itself: it marks what a layer reads that is to stay float, for lowerings and runtimes."""
    return x.clone()


@keep_float.register_fake
def _(x: Tensor) -> Tensor:
    return torch.empty_like(x)


class Dequantize(nn.Module):
    """Describes a parametrization that turns an int8 buffer into the float weight its layer computes with."""

    scale: Tensor
    shift: Tensor | None

    def __init__(self, encoding: WeightEncoding) -> None:
        super().__init__()
        self.axis = encoding.axis or 0
        self.register_buffer("scale", encoding.scale)
        self.register_buffer("shift", None if encoding.shift is None else encoding.along_axis(encoding.shift))

    def forward(self, codes: Tensor) -> Tensor:
        result: Tensor = torch.ops.codeq.dequantize(codes, self.scale, self.shift, self.axis)
        return result


def replace_quantizer(weight: QuantizedWeight, encoding: WeightEncoding) -> None:
    """Swap a layer's float weight and its quantizer for int8 codes and a `Dequantize`, in place."""
    module, name = weight.module, weight.tensor_name
    remove_quantizer(weight)
    delattr(module, name)
    module.register_buffer(name, encoding.codes)
    # unsafe: the parametrization changes the dtype, which torch's consistency check does not allow.
    parametrize.register_parametrization(module, name, Dequantize(encoding), unsafe=True)
