"""The operator that stands for a quantized weight in a reference program: integer codes in, float weight out."""

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from codeq.attach import QuantizedWeight, remove_quantizer
from codeq.grid import WeightEncoding


@torch.library.custom_op("codeq::dequantize", mutates_args=())
def dequantize(codes: Tensor, scale: Tensor, shift: Tensor | None, axis: int) -> Tensor:
    """codes * scale, or codes * scale + shift * sign(codes): ONNX DequantizeLinear with zero point 0, then the shift.

    Args:
        codes: int8.
        scale: float32, `()` or `(codes.shape[axis],)`.
        shift: None, or float32 that broadcasts against `codes`.
        axis: The channel axis of a per-channel scale; without meaning for `()`.

    Returns:
        float32, the shape of `codes`.
    """
    values = codes.float()
    if scale.ndim:
        shape = [1] * codes.ndim
        shape[axis] = -1
        scale = scale.reshape(shape)
    return values * scale if shift is None else values * scale + shift * values.sign()


@dequantize.register_fake
def _(codes: Tensor, scale: Tensor, shift: Tensor | None, axis: int) -> Tensor:
    return torch.empty_like(codes, dtype=torch.float32)


class Dequantize(nn.Module):
    """A parametrization that turns an int8 buffer into the float weight its layer computes with."""

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
