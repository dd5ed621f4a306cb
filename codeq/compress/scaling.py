"""These functions multiply channels of a layer's weight by factors, and say how far each channel reaches.

    grouped[g, o, i, k]    output o and input i of group g, at place k of the kernel, whatever the layer's own order

All take float32 weights and values per channel, `(C,)`, and leave what they are given alone.
"""

from torch import Tensor

from codeq.compress.columns import Layer


def _grouped(weight: Tensor, layer: Layer) -> Tensor:
    if layer.transposed:  # (in, out / groups, *kernel)
        return weight.reshape(layer.groups, weight.shape[0] // layer.groups, weight.shape[1], -1).transpose(1, 2)
    return weight.reshape(layer.groups, weight.shape[0] // layer.groups, weight.shape[1], -1)


def _restored(grouped: Tensor, weight: Tensor, layer: Layer) -> Tensor:
    return (grouped.transpose(1, 2) if layer.transposed else grouped).reshape(weight.shape).contiguous()


def scale_outputs(weight: Tensor, layer: Layer, factors: Tensor) -> Tensor:
    """Multiply all that gives an output channel by its factor."""
    return _restored(_grouped(weight, layer) * factors.reshape(layer.groups, -1, 1, 1), weight, layer)


def scale_inputs(weight: Tensor, layer: Layer, factors: Tensor) -> Tensor:
    """Multiply all that reads an input channel by its factor."""
    return _restored(_grouped(weight, layer) * factors.reshape(layer.groups, 1, -1, 1), weight, layer)


def output_ranges(weight: Tensor, layer: Layer) -> Tensor:
    """Find the largest magnitude of the weights that give each output channel."""
    return _grouped(weight, layer).abs().amax((2, 3)).flatten()


def input_ranges(weight: Tensor, layer: Layer) -> Tensor:
    """Find the largest magnitude of the weights that read each input channel."""
    return _grouped(weight, layer).abs().amax((1, 3)).flatten()


def input_sums(weight: Tensor, layer: Layer, values: Tensor) -> Tensor:
    """Compute what each output channel gets where every input channel has one value at all places."""
    return (_grouped(weight, layer).sum(3) * values.reshape(layer.groups, 1, -1)).sum(2).flatten()
