"""Find the layer in which a training run went wrong."""

import math

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from codeq.errors import CodeqError
from codeq.graph.eval_mode import eval_mode

EXPLODED = 20.0
"""A smoothed loss of this many times that of guessing: beyond what any run recovers from within its schedule."""
SMOOTHING = 0.9


class DivergedError(CodeqError):
    """Raised where the loss exploded, or the loss or a weight became NaN or infinite."""


class LossGuard:
    """Watches the loss of a run: NaN and infinity at once, explosion once it lasts.

    Args:
        num_classes: Guessing among them costs log(num_classes), which is where the smoothed loss starts.
    """

    def __init__(self, num_classes: int) -> None:
        self.smoothed = math.log(max(num_classes, 2))
        self.limit = EXPLODED * self.smoothed

    def diverged(self, loss: float) -> bool:
        """Take the loss of one step and say whether the run is beyond saving."""
        if not math.isfinite(loss):
            return True
        self.smoothed = SMOOTHING * self.smoothed + (1 - SMOOTHING) * loss
        return self.smoothed > self.limit


@torch.no_grad()
def where_diverged(model: nn.Module, inputs: Tensor) -> str:
    """Name the first parameter that is not finite; else the layer whose output is not, or else the largest.

    BatchNorm normalises by the batch, as in training: by running statistics, which lag behind weights that explode,
    another layer may stand out than the one that did in training.

    Args:
        model: As it is now; its modes and statistics are left as they are.
        inputs: The batch that showed it; with several processes every one must call this, with its share.
    """
    for name, parameter in model.named_parameters():
        if not bool(torch.isfinite(parameter).all()):
            return f"{name.replace('parametrizations.', '').removesuffix('.original')} has NaN or infinite entries"
    peaks: dict[str, float] = {}

    def watch(name: str, module: nn.Module) -> torch.utils.hooks.RemovableHandle:
        def note(_: nn.Module, __: tuple[object, ...], output: object) -> None:
            if isinstance(output, Tensor) and output.is_floating_point() and output.numel():
                peak = output.detach().abs().max().item()
                peaks.setdefault(name, math.inf if math.isnan(peak) else peak)

        return module.register_forward_hook(note)

    leaves = [
        (name, module)
        for name, module in model.named_modules()
        if name and not any(module.children()) and "parametrizations" not in name
    ]
    handles = [watch(name, module) for name, module in leaves]
    norms = [module for module in model.modules() if isinstance(module, _BatchNorm) and module.track_running_stats]
    try:
        with eval_mode(model):
            for norm in norms:
                norm.train()
                norm.track_running_stats = False
            model(inputs)
    finally:
        for norm in norms:
            norm.track_running_stats = True
        for handle in handles:
            handle.remove()
    infinite = next((name for name, peak in peaks.items() if math.isinf(peak)), None)
    if infinite is not None:
        return f"the output of {infinite} has NaN or infinite entries"
    if not peaks:
        return "no layer stands out"
    largest = max(peaks, key=lambda name: peaks[name])
    return f"the output of {largest} reaches {peaks[largest]:.3g}"
