"""Call a network in training through `torch.compile`: what lies between its layers becomes one pass over memory.

The weights are quantized outside, by the fused operator (quantizer/fused.py); the graph gets their values as inputs:

    thetas, weights -> fused operator -> values \\
                                  biases, norms -> one compiled graph, channels last -> outputs

Sums are taken in another order than in the plain network, so a run is compiled from its first step to its last.
"""

import copy
import logging
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from codeq.errors import first_line
from codeq.quantizer.attach import quantized_weights, remove_quantizer
from codeq.toolkit.quiet import quiet_torch

logger = logging.getLogger(__name__)

OPTIONS: dict[str, Any] = {"fallback_random": True}
"""Of the compiler: dropout draws what it draws in the plain network."""


class CompiledNetwork:
    """Calls a network as its own `forward` would, in a graph of its own for batches of one size.

    A batch of another size, such as the last of an epoch, is computed by the plain network; so is everything where
    compiling fails, which is logged once.

    Args:
        model: Attached or plain, `(N, ...)` -> outputs. Its parameters stay where they are and get the gradients; its
            buffers are updated in place.
        batch_size: N of the batches that are worth a graph.
    """

    def __init__(self, model: nn.Module, batch_size: int) -> None:
        self.model = model
        self.batch_size = batch_size
        self.works: bool | None = None  # not tried yet
        plain = copy.deepcopy(model)
        for weight in list(quantized_weights(plain)):
            remove_quantizer(weight)
        self._plain = plain.to("meta")  # the graph's structure; its tensors are those of `model`
        self._names = [name for name, _ in plain.named_parameters(remove_duplicate=False)]
        self._names += [name for name, _ in plain.named_buffers(remove_duplicate=False)]
        self._graph: Callable[[dict[str, Tensor], Tensor], Any] | None = None

    def __call__(self, inputs: Tensor) -> Any:
        """Compute the outputs, in the mode that `model` is in."""
        if self.works is False or len(inputs) != self.batch_size:
            return self.model(inputs)
        self._plain.train(self.model.training)
        tensors = self._tensors()
        try:
            if self._graph is not None:
                return self._graph(tensors, inputs)
            with quiet_torch():
                self._graph = torch.compile(self._call, dynamic=False, options=OPTIONS)
                outputs = self._graph(tensors, inputs)
        except torch.OutOfMemoryError:
            raise
        except Exception as error:  # whatever a compiler raises for a network of whatever kind
            logger.warning("the network is not compiled, slower steps go on (%s)", first_line(error))
            self.works = False
            return self.model(inputs)
        self.works = True
        return outputs

    def _tensors(self) -> dict[str, Tensor]:
        """Give every tensor that the plain network reads, under its name there."""
        values: dict[tuple[int, int], Tensor] = {}
        found: dict[str, Tensor] = dict(self.model.named_parameters(remove_duplicate=False))
        found |= dict(self.model.named_buffers(remove_duplicate=False))
        for weight in quantized_weights(self.model):
            key = id(weight.quantizer), id(weight.original)
            if key not in values:
                values[key] = weight.quantizer(weight.original)
            found[weight.name] = values[key]
        return {name: found[name] for name in self._names}

    def _call(self, tensors: dict[str, Tensor], inputs: Tensor) -> Any:
        tensors = {name: _channels_last(tensor) for name, tensor in tensors.items()}
        return functional_call(self._plain, tensors, (_channels_last(inputs),), tie_weights=False)


def _channels_last(tensor: Tensor) -> Tensor:
    return tensor.contiguous(memory_format=torch.channels_last) if tensor.ndim == 4 else tensor
