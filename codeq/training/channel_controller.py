"""Say what a network may cost: a controller that lets channels die until so much is left of its multiply-adds or time.

Every channel has a dead zone: it dies where what it is worth falls below lambda times what it costs. One lambda serves
all layers, so that channels go where they cost much and matter little. Worth is magnitude as the loss sees it: the
squared change of the loss, to first order, when all weights that read the channel become zero, (sum of gradient x
weight)^2, averaged over steps. Channels that a residual sum, a depthwise convolution or a concatenation ties have one
sum (spaces.py). Source: Liu et al. 2021, "Group Fisher Pruning for Practical Network Compression", arXiv:2108.00708,
sections 3.1 and 3.3; Molchanov et al. 2019, "Importance Estimation for Neural Network Pruning", arXiv:1906.10771.
Gradients of dead weights pass straight through to the weights, as those of CoDeQ's dead zone do (arXiv:2512.12981), so
that a channel returns where it is missed.

Time is that of a runtime's kernels, measured where the network will run (kernel_times.py): channels then live and die
by the tiles that kernels compute.

Lambda follows from a planned curve of the cost, the cubic ramp of Zhu & Gupta 2017, "To prune, or not to prune",
arXiv:1710.01878, equation 1: what would be left at any lambda is counted, through all ties, as budget_controller.py
counts zeros. Where grids freeze, the channels stay as they are.
"""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from codeq.channels.kernel_times import KernelTimes
from codeq.channels.price import affordable, landed, least_cost
from codeq.channels.spaces import ChannelSpaces, find_spaces
from codeq.graph.inputs import Inputs
from codeq.quantizer.attach import quantized_weights
from codeq.quantizer.dead_zone import DeadZoneQuantizer
from codeq.training.budget import BudgetError

RAMP_SHARE = 0.5
"""Part of the steps before freezing in which the cost moves to its target: what is left then has to train."""
READINGS = 200
"""How often gradients are read on the way."""
SMOOTHING = 0.9
"""Share of earlier readings in what a channel is worth, and in what it costs."""
HYSTERESIS = 2.0
"""A channel that lives is worth so much more than a dead one like it, so that they do not change places by noise."""


class ChannelController:
    """A controller lets channels of a network in training die until its budget is met.

    Call `step()` after every optimizer step, while gradients are there, and `finish()` where grids freeze, before they
    do. Everything is computed from weights and gradients, so ranks that hold the same take the same decisions.

    Args:
        model: Attached with `channels=True`.
        share: What is left of the dense network's cost in the end, in (0, 1).
        inputs: One or more, batch first: the network is traced with them.
        steps: Optimizer steps until `finish()`.
        times: Of the kernels; None counts multiply-adds.

    Attributes:
        spaces: The channels.
        live: Which live, bool `(spaces.count,)`.

    Raises:
        TraceError: The network cannot be traced.
        BudgetError: It has no channel that could die, or too few.
        KernelTimesError: They are of another network.
        ValueError: `share` is out of range.
    """

    def __init__(
        self, model: nn.Module, share: float, inputs: Inputs, steps: int, *, times: KernelTimes | None = None
    ) -> None:
        if not 0 < share < 1:
            raise ValueError(f"share must be above 0 and below 1, found {share!r}")
        self.share = share
        self.model = model
        self.steps = max(steps, 1)
        self.interval = max(1, math.floor(RAMP_SHARE * self.steps) // READINGS)
        self.taken = 0
        self.finished = False
        if not any(weight.quantizer.channels for weight in quantized_weights(model)):
            raise BudgetError("no weight is attached with channels=True; call codeq.attach(model, ..., channels=True)")
        spaces = find_spaces(model, inputs)
        count = spaces.count
        if not count:
            raise BudgetError("the network has no channel that could go: what its layers read, outputs need too")
        self.spaces: ChannelSpaces = spaces if times is None else spaces.timed(times)
        # A shared weight has one quantizer.
        readers: dict[DeadZoneQuantizer, tuple[Tensor, np.ndarray]] = {}
        for weight in quantized_weights(model):
            if weight.name in self.spaces.readers:
                readers[weight.quantizer] = (weight.original, self.spaces.readers[weight.name])
        self._readers = readers
        self.live = np.ones(count, bool)
        self._digest = None if times is None else times.digest
        self._worth = np.zeros(count)
        self._costs = self.spaces.marginal_cost(self.live)
        self._readings = 0
        self._all = self.spaces.cost(self.live)
        least = least_cost(self.spaces) / self._all
        if least > share:
            what = "multiply-adds" if times is None else "latency"
            raise BudgetError(
                f"{share:.1%} of the {what} cannot be met by this network: {least:.1%} is the least that its channels "
                "allow"
            )

    @property
    def reached(self) -> float:
        """Say what is left of the dense network's cost, 0 to 1."""
        return self.spaces.cost(self.live) / self._all

    @property
    def macs(self) -> float:
        """Say what is left of the dense network's multiply-adds, 0 to 1."""
        return self.spaces.macs(self.live) / self.spaces.macs(np.ones_like(self.live))

    def state_dict(self) -> dict[str, Any]:
        """Return what `load_state_dict` needs to go on exactly; plain values."""
        return {
            "taken": self.taken,
            "finished": self.finished,
            "readings": self._readings,
            "live": self.live.tolist(),
            "worth": self._worth.tolist(),
            "costs": self._costs.tolist(),
            "times": self._digest,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where another controller of the same network and budget stood.

        Raises:
            KeyError, TypeError, ValueError: It is no such state.
        """
        live = np.array(state["live"], bool)
        worth, costs = (np.array(state[name], float) for name in ("worth", "costs"))
        if not live.shape == worth.shape == costs.shape == self.live.shape:
            raise ValueError(f"states of {live.size} channels, expected {self.spaces.count}")
        if state["times"] != self._digest:
            raise ValueError("the run began with another table of kernel times")
        self.taken, self._readings = int(state["taken"]), int(state["readings"])
        self.finished, self._worth, self._costs = bool(state["finished"]), worth, costs
        self._mask(live)

    @torch.no_grad()
    def step(self) -> None:
        """Count one optimizer step; every few, read what channels are worth and let die what the plan says."""
        if self.finished:
            return
        if self.taken % self.interval == 0 and self._read():
            self._mask(self._affordable(self._planned(self.taken + self.interval)))
        self.taken += 1

    @torch.no_grad()
    def finish(self) -> float:
        """Put the cost on the target; the channels that live stay the same from here.

        Returns:
            What is left of it, 0 to 1.

        Raises:
            BudgetError: No gradient was read in any step.
        """
        if not self._readings:
            raise BudgetError("no step had gradients to choose channels by; call step() before they are zeroed")
        live = self._affordable(self.share)
        self._mask(landed(self.spaces, self._worth, live, self.share * self._all, self._costs))
        self.finished = True
        return self.reached

    def _read(self) -> bool:
        """Read what every channel is worth; False where gradients are missing or not finite."""
        change = np.zeros(self.spaces.count + 1)
        for quantizer, (weight, channels) in self._readers.items():
            if weight.grad is None:
                return False
            products = (weight.grad.double() * weight.double()).transpose(0, 1 - quantizer.axis)
            np.add.at(change, channels, products.flatten(1).sum(1).cpu().numpy())
        squares = change[:-1] ** 2
        if not np.isfinite(squares).all():
            return False
        self._readings += 1
        share = min(SMOOTHING, 1 - 1 / self._readings)  # the first ones weigh alike
        self._worth = squares + share * (self._worth - squares)
        # What a channel costs depends on which others live: unsmoothed, whole layers would come and go by turns.
        costs = self.spaces.marginal_cost(self.live)
        self._costs = costs + share * (self._costs - costs)
        return True

    def _planned(self, step: int) -> float:
        left = max(0.0, 1 - step / (RAMP_SHARE * self.steps))
        return self.share + (1 - self.share) * left**3

    def _affordable(self, share: float) -> np.ndarray:
        worth = np.where(self.live, HYSTERESIS, 1.0) * self._worth
        return affordable(self.spaces, worth, share * self._all, costs=self._costs)

    def _mask(self, live: np.ndarray) -> None:
        self.live = live
        self.spaces.let_live(self.model, live)
