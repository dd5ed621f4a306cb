"""Tables of kernel times that nobody measured."""

from codeq.channels.kernel_times import KernelTimes, LayerTimes
from codeq.channels.spaces import ChannelSpaces


def table_of(spaces: ChannelSpaces, *, tile: int = 4) -> KernelTimes:
    """A table in which a layer takes its share of the multiply-adds, what follows a tenth of it, and a call 0.1 ms."""
    layers = {}
    for layer in spaces.layers:
        outputs = tuple(sorted({*range(tile, len(layer.outputs), tile), len(layer.outputs)}))
        inputs = (1,) if layer.inputs is None else tuple(sorted({1, len(layer.inputs)}))
        full = layer.macs / 1e4
        times = tuple(tuple(full * one / outputs[-1] * other / inputs[-1] for other in inputs) for one in outputs)
        layers[layer.name] = LayerTimes(outputs, inputs, times, others=full / 10)
    total = 0.1 + sum(layer.milliseconds[-1][-1] + layer.others for layer in layers.values())
    return KernelTimes(layers, total, 0.1, (), tile, "onnxruntime", "1.31.1", "a processor", 1, 8)
