"""Find the layer in which a training run went wrong."""

import math

import torch
from torch import Tensor, nn

EXPLODED = 20.0
"""A smoothed loss of this many times that of guessing: beyond what any run recovers from within its schedule."""
SMOOTHING = 0.9


class LossGuard:
    """Watches a loss: NaN and infinity at once, explosion once it lasts.

    Args:
        num_classes: Guessing among them costs log(num_classes).
    """

    def __init__(self, num_classes: int) -> None:
        self.limit = EXPLODED * math.log(max(num_classes, 2))
        self.smoothed: float | None = None

    def diverged(self, loss: float) -> bool:
        """Take the loss of one step and say whether the run is beyond saving."""
        if not math.isfinite(loss):
            return True
        self.smoothed = loss if self.smoothed is None else SMOOTHING * self.smoothed + (1 - SMOOTHING) * loss
        return self.smoothed > self.limit


@torch.no_grad()
def where_diverged(model: nn.Module, inputs: Tensor) -> str:
    """Name the first parameter that is not finite; else the layer whose output is not, or else the largest.

    Args:
        model: As it is now; its modes and statistics are left as they are.
        inputs: The batch that showed it.
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
    modes = {module: module.training for module in model.modules()}
    try:
        model.eval()(inputs)
    finally:
        for handle in handles:
            handle.remove()
        for module, mode in modes.items():
            module.training = mode
    infinite = next((name for name, peak in peaks.items() if math.isinf(peak)), None)
    if infinite is not None:
        return f"the output of {infinite} has NaN or infinite entries"
    if not peaks:
        return "no layer stands out"
    largest = max(peaks, key=lambda name: peaks[name])
    return f"the output of {largest} reaches {peaks[largest]:.3g}"
