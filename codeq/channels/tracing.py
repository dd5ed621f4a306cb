"""A network is traced with its quantizers taken off, in eval mode, for any batch size where it takes any."""

import copy

from torch import Tensor, nn
from torch.export import ExportedProgram

from codeq.errors import TraceError
from codeq.graph.inputs import Inputs, slice_inputs, split_inputs
from codeq.graph.trace import trace
from codeq.quantizer.attach import detach

PROOF_INPUTS = 4


def trace_plain(model: nn.Module, inputs: Inputs) -> tuple[ExportedProgram, tuple[Tensor, ...], tuple[str, ...]]:
    """Trace a network, attached or plain, which stays as it is.

    Returns:
        The graph, and the inputs that it was traced with: tensors, and their names.

    Raises:
        TraceError: It cannot be traced.
    """
    plain = detach(copy.deepcopy(model)).eval()
    try:
        few = split_inputs(plain, slice_inputs(inputs, slice(PROOF_INPUTS)))
        return trace(plain, *few), *few
    except TraceError:
        given = split_inputs(plain, inputs)
        return trace(plain, *given, dynamic_batch=False), *given
