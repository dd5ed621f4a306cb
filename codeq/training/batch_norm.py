"""Re-estimate BatchNorm statistics after training.

Quantized weights oscillate between levels late in training, and the running statistics lag behind them (see
Nagel et al. 2022, "Overcoming Oscillations in Quantization-Aware Training", arXiv:2203.11086, section 4).

A channel that never varies gets a variance of 1: its output is beta either way, and the factor 1 / sqrt(0 + eps) = 316
would turn the last bit of a float32 sum, or a step of an activation's grid, into a wrong answer. Pruning makes many:
whatever reads a channel without weights reads a constant.
"""

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from codeq.graph.eval_mode import eval_mode

CONSTANT = 1e-4
"""Share of eps: a channel of less variance is constant but for rounding; its output moves by less than 1 % of gamma."""


@torch.no_grad()
def reestimate_batch_norm(model: nn.Module, batches: Iterable[Tensor]) -> None:
    """Replace every BatchNorm's running statistics by their plain average over `batches`, in place.

    Channels that do not vary get a variance of 1.

    Args:
        model: Any network; its modes and weights are left as they are.
        batches: Inputs as in training, of the training batch size.
    """
    norms = [module for module in model.modules() if isinstance(module, _BatchNorm) and module.track_running_stats]
    if not norms:
        return
    momenta = [norm.momentum for norm in norms]
    with eval_mode(model):
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None  # torch's spelling of a cumulative average
            norm.train()
        try:
            for batch in batches:
                model(batch)
        finally:
            for norm, momentum in zip(norms, momenta, strict=True):
                norm.momentum = momentum
    for norm in norms:
        assert norm.running_var is not None
        norm.running_var[norm.running_var < CONSTANT * norm.eps] = 1.0
