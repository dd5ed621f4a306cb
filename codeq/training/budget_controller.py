"""Say what the network may cost instead of lambda: a controller that steers lambda until training gives that cost.

Lambda makes every theta_dz fall by one factor per step, exp(-rate) with rate = 10 * theta_lr * lambda (see
param_groups.py). The controller chooses that factor. It knows the plant: what a network would cost with all thetas
times a factor follows from the weights as they are, by counting. So every few steps it reads the weights, finds the
factor that puts the cost on a planned curve, and sets lambda accordingly; lambda becomes negative where zeros must give
way again. The curve is the cubic ramp of Zhu & Gupta 2017, "To prune, or not to prune", arXiv:1710.01878, equation 1.
When grids freeze, one more factor, found on the exact weights, puts the cost on the target. Weights train on and cross
the borders of frozen grids; where the cost has drifted by a tenth of its margin, it is put back in the same way.

Learned bits fall by the same factor, but each layer at its own speed: faster where a bit saves much and hurts little.
Taking a bit from a weight doubles its step size, which in a second-order model of the loss costs h step_size^2 / 8, h
the sum of the Hessian's diagonal; as usual the squared gradients stand for that (the empirical Fisher information:
Theis et al. 2018, "Faster gaze prediction with dense networks and Fisher pruning", arXiv:1801.05787, equation 7;
bits by such sensitivities: Dong et al. 2020, "HAWQ-V2", arXiv:1911.03852).
"""

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from codeq.cost import FLOAT_BITS, summary
from codeq.quantizer.attach import QuantizedWeight, freeze, quantized_weights
from codeq.quantizer.choices import MAX_THETA, MIN_THETA
from codeq.quantizer.dead_zone import DeadZoneQuantizer
from codeq.quantizer.grid import Grid
from codeq.training.budget import Budget, BudgetError, Kind

RAMP_SHARE = 0.8
"""Part of the steps before freezing in which the cost moves to its target; it is held for the rest."""
READINGS = 200
"""How often the weights are read on the way."""
HOLDS = 10
"""About how often the cost is looked at on frozen grids."""
HOLD_SHARE = 0.1
"""Part of the margin that the cost may drift on frozen grids before they are moved."""
MAX_RATE = 0.05
"""Largest move of log theta per step: a layer needs sixty steps from the start of theta to the collapse guard."""
MIN_THETA_BIT = 0.05
"""Rounds to 2 bits, and is left again within a few steps."""
LOG_SEARCH = math.log(64)
BISECTIONS = 20
"""The factor on theta is sought between 1/64 and 64, to a part in 100,000."""
FISHER_SMOOTHING = 0.9
"""Share of earlier readings in the squared gradients."""
GAIN_POWER = 0.5
MAX_BIT_SPEED = 4.0
"""Bits move by gain^GAIN_POWER relative to the mean layer, between 1/4 and 4. A bit less divides the gain by four."""
SAMPLE_SIZE = 2**13
"""Magnitudes read per weight on the way: a share of zeros to half a point in one layer, much less in the network."""
MAX_ZEROS = 0.99
"""The range is the 0.99 quantile of |w| and lies above the dead zone, so one weight in a hundred stays."""


class BudgetController:
    """A controller steers the dead zones, and learned bit widths, of a network in training to a budget.

    Call `step()` after every optimizer step, while gradients are there, and `finish()` where grids freeze. Theta needs
    no decay of its own: `param_groups(..., lambda_dz=0, lambda_bit=0)`. Everything is computed from weights and
    gradients, so ranks that hold the same take the same decisions.

    Args:
        model: Attached. `finish()` freezes its grids, and nothing else may.
        budget: The target.
        input_shape: Of one input, for MACs.
        steps: Optimizer steps until `finish()`.
        hold_steps: Optimizer steps after it, in which the cost is held to the target.
        theta_lr: As for `param_groups`; only to report lambda.
        bit_ratio: lambda_bit / lambda_dz where bits are learned; a sparsity budget leaves bits alone.

    Raises:
        BudgetError: The network has no quantized weight, or no grid of it can meet the budget in so many steps; the
            message says what can be met.
    """

    def __init__(
        self,
        model: nn.Module,
        budget: Budget,
        input_shape: tuple[int, ...],
        steps: int,
        *,
        hold_steps: int = 0,
        theta_lr: float = 1e-3,
        bit_ratio: float = 1.0,
    ) -> None:
        self.model = model
        self.budget = budget
        self.steps = max(steps, 1)
        self._furthest = MAX_RATE * steps
        self.interval = max(1, self.steps // READINGS)
        self.hold_interval = max(1, hold_steps // HOLDS)
        self.hold_end = self.steps + hold_steps
        self.theta_lr = theta_lr
        self.bit_ratio = 0.0 if budget.counts_zeros else bit_ratio
        self.taken = 0
        self.rate = 0.0
        self.finished = False
        self._reachable: list[float] = []
        cost = summary(model, input_shape)
        macs = {layer.name: layer.macs for layer in cost.layers}
        # A shared weight has one quantizer, and counts once.
        weights = {weight.quantizer: weight for weight in reversed(list(quantized_weights(model)))}
        if not weights:
            raise BudgetError("the network has no quantized weight that a budget could steer; attach it first")
        counted = [layer for layer in cost.layers if layer.is_pointwise or budget.kind != "pointwise_sparsity"]
        self._kind: Kind = "sparsity" if budget.counts_zeros else budget.kind  # of what it counts
        among = {layer.name for layer in counted}
        self._weights = [(weight, macs[weight.name]) for weight in reversed(weights.values()) if weight.name in among]
        if not self._weights:
            raise BudgetError("the network has no quantized 1x1 convolution to put zeros into; use --sparsity")
        names = {weight.name for weight, _ in self._weights}
        floats = [layer for layer in counted if layer.name not in names]
        self._fixed = {
            "sparsity": sum(layer.numel - layer.nnz for layer in floats),
            "bops": sum(layer.bops for layer in floats),
            "size": sum(layer.entropy_bytes for layer in floats),
        }[self._kind]
        numel = sum(layer.numel for layer in counted)
        self._unit = {"sparsity": numel, "bops": cost.macs * FLOAT_BITS**2 or 1, "size": 1}[self._kind]
        self._fisher, self._bit_speeds = [0.0] * len(self._weights), [1.0] * len(self._weights)
        layers = self._read()
        self._start = self._cost(layers)
        dense, least = self._cost(layers, MAX_THETA / MIN_THETA), self._least_possible()
        if not min(dense, least) <= budget.target <= max(dense, least):
            raise BudgetError(
                f"{budget} cannot be met by this network at its bit widths: between "
                f"{budget.format(min(dense, least))} and {budget.format(max(dense, least))} can, in {steps} steps"
            )

    @property
    def strength(self) -> float:
        """Say how large lambda is now, in the terms of `param_groups`."""
        return self.rate / (10 * self.theta_lr)

    def state_dict(self) -> dict[str, Any]:
        """Return what `load_state_dict` needs to go on exactly; plain values."""
        return {
            "taken": self.taken,
            "rate": self.rate,
            "finished": self.finished,
            "start": self._start,
            "reachable": list(self._reachable),
            "fisher": list(self._fisher),
            "bit_speeds": list(self._bit_speeds),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where another controller of the same network and budget stood.

        Raises:
            KeyError, TypeError, ValueError: It is no such state.
        """
        self.taken, self.rate, self._start = int(state["taken"]), float(state["rate"]), float(state["start"])
        self._reachable = [float(cost) for cost in state["reachable"]]
        self.finished = bool(state["finished"])
        self._fisher = [float(value) for value in state["fisher"]]
        self._bit_speeds = [float(speed) for speed in state["bit_speeds"]]
        if not len(self._fisher) == len(self._bit_speeds) == len(self._weights):
            raise ValueError(f"speeds of {len(self._bit_speeds)} layers, expected {len(self._weights)}")

    @torch.no_grad()
    def step(self) -> None:
        """Count one optimizer step, and move the thetas by the present lambda.

        Raises:
            BudgetError: The weights as they have become will not meet the budget; the message says what they can. Or
                grids were frozen by another than `finish()`.
        """
        if self.finished:
            self.taken += 1
            if self.taken < self.hold_end and (self.taken - self.steps) % self.hold_interval == 0:
                self._hold()
            return
        self._refuse_frozen()
        if self.taken % self.interval == 0:
            layers = self._read()
            self._refuse_unreachable(layers)
            self._read_sensitivity(layers)
            # Half of what is missing: weights move between readings, and a full correction would chase them.
            factor, _ = self._factors(layers, self._planned(self.taken + self.interval))
            self.rate = max(-MAX_RATE, min(MAX_RATE, -0.5 * math.log(factor) / self.interval))
        self.taken += 1
        factor = math.exp(-self.rate)
        for number, (weight, _) in enumerate(self._weights):
            _move(weight.quantizer.theta_dz, factor, MIN_THETA)
            if weight.quantizer.theta_bit is not None and self.bit_ratio:
                _move(weight.quantizer.theta_bit, self._bit_factor(number, factor), MIN_THETA_BIT)

    @torch.no_grad()
    def finish(self) -> float:
        """Put the cost on the target as exactly as grids allow, and freeze them.

        Returns:
            The cost that was reached.

        Raises:
            BudgetError: It is further from the target than the margin, or grids are frozen already.
        """
        self._refuse_frozen()
        reached, move = self._land(self._read(exact=True))
        if abs(reached - self.budget.target) > self.budget.margin:
            raise self._out_of_reach(reached)
        move()
        freeze(self.model)
        self.finished = True
        return reached

    def _land(self, layers: list["_Layer"]) -> tuple[float, Callable[[], None]]:
        """The cost nearest to the target that moving dead zones gives, and what moves them."""
        low, high = self._factors(layers, self.budget.target, bits_too=False)
        # On coarse grids zeros move in jumps, of all layers at once: let so many layers jump as come nearest.
        fewer, more = self._costs(layers, low, bits_too=False), self._costs(layers, high, bits_too=False)
        totals = [sum(more[:count]) + sum(fewer[count:]) + self._fixed for count in range(len(layers) + 1)]
        misses = [abs(total / self._unit - self.budget.target) for total in totals]
        jumping = misses.index(min(misses))

        def move() -> None:
            for number, (weight, _) in enumerate(self._weights):
                _move(weight.quantizer.theta_dz, high if number < jumping else low, MIN_THETA)

        return totals[jumping] / self._unit, move

    def _hold(self) -> None:
        """Move frozen grids a little, if weights have crossed their borders."""
        layers = self._read(exact=True)
        frozen = (
            layer.cost(self._kind, layer.quantizer.exact_grid(weight.original), layer.quantizer.bit_width())
            for layer, (weight, _) in zip(layers, self._weights, strict=True)
        )
        cost = (sum(frozen) + self._fixed) / self._unit
        if abs(cost - self.budget.target) <= HOLD_SHARE * self.budget.margin:
            return
        _, move = self._land(layers)
        move()
        for weight, _ in self._weights:
            weight.quantizer.refreeze(weight.original)

    def _refuse_frozen(self) -> None:
        for weight, _ in self._weights:
            if bool(weight.quantizer.frozen):
                raise BudgetError(f"{weight.name} is frozen already; a budget is met by finish(), once, which freezes")

    def _planned(self, step: int) -> float:
        left = max(0.0, 1 - step / (RAMP_SHARE * self.steps))
        return self.budget.target + (self._start - self.budget.target) * left**3

    def _read(self, exact: bool = False) -> list["_Layer"]:
        return [_Layer(weight, macs, exact) for weight, macs in self._weights]

    def _cost(self, layers: list["_Layer"], factor: float = 1.0) -> float:
        """Compute the network's cost with all thetas times a factor."""
        return (sum(self._costs(layers, factor)) + self._fixed) / self._unit

    def _costs(self, layers: list["_Layer"], factor: float, bits_too: bool = True) -> list[float]:
        costs = []
        for number, layer in enumerate(layers):
            quantizer = layer.quantizer
            # MIN_THETA_BIT gives 2 as 0 does
            bits = quantizer.bit_width(self._bit_factor(number, factor) if bits_too else 1.0)
            theta = min(max(abs(quantizer.theta_dz.item()) * factor, MIN_THETA), MAX_THETA)
            costs.append(layer.cost(self._kind, quantizer.grid_at(layer.reach, theta, bits), bits))
        return costs

    def _bit_factor(self, number: int, factor: float, speed: float | None = None) -> float:
        """What one factor on all thetas means for a layer's theta_bit; what falls fast rises slowly."""
        speed = self._bit_speeds[number] if speed is None else speed
        return factor ** (self.bit_ratio * (speed if factor < 1 else 1 / speed))

    def _read_sensitivity(self, layers: list["_Layer"]) -> None:
        """Take the squared gradients, and with them set how fast the bits of each layer move."""
        squares = {
            number: float(weight.original.grad.float().square().sum())
            for number, (weight, _) in enumerate(self._weights)
            if weight.quantizer.theta_bit is not None and weight.original.grad is not None
        }
        # Gradients may be zeroed already, be zero behind a zero-initialised scale, or overflow under a loss scaler.
        if not self.bit_ratio or not all(map(math.isfinite, squares.values())):
            return
        gains = {}
        for number, square in squares.items():
            if not square:
                continue
            layer = layers[number]
            before = self._fisher[number]
            self._fisher[number] = square + FISHER_SMOOTHING * (before - square) if before else square
            step_size = layer.quantizer.grid_at(layer.reach, layer.theta, layer.bits).step_size * layer.unit
            saved = layer.numel if self.budget.kind == "size" else max(layer.macs, 1)
            gains[number] = GAIN_POWER * (math.log(saved) - math.log(self._fisher[number] * step_size**2))
        if not gains:
            return
        mean, limit = sum(gains.values()) / len(gains), math.log(MAX_BIT_SPEED)
        for number, gain in gains.items():
            self._bit_speeds[number] = math.exp(max(-limit, min(limit, gain - mean)))

    def _factors(self, layers: list["_Layer"], wanted: float, bits_too: bool = True) -> tuple[float, float]:
        """Find two neighbouring factors on all thetas, between which the cost passes what is wanted; by bisection."""
        low, high = -LOG_SEARCH, LOG_SEARCH
        for _ in range(BISECTIONS):
            middle = (low + high) / 2
            cost = (sum(self._costs(layers, math.exp(middle), bits_too)) + self._fixed) / self._unit
            # Zeros grow where theta falls, bit operations and bytes shrink.
            if (cost > wanted) == self.budget.counts_zeros:
                low = middle
            else:
                high = middle
        return math.exp(low), math.exp(high)

    def _least_possible(self) -> float:
        """Compute the cost with MAX_ZEROS in every quantized layer and the fewest bits that learned ones can reach."""
        total, kept = self._fixed, 1 - MAX_ZEROS
        for number, (weight, macs) in enumerate(self._weights):
            quantizer, numel = weight.quantizer, weight.original.numel()
            bits = quantizer.bit_width(self._bit_factor(number, math.exp(-self._furthest), MAX_BIT_SPEED))
            entropy = -kept * math.log2(kept) - MAX_ZEROS * math.log2(MAX_ZEROS) + kept
            total += {
                "sparsity": MAX_ZEROS * numel,
                "bops": kept * macs * bits * FLOAT_BITS,
                "size": entropy * numel / 8,
            }[self._kind]
        return total / self._unit

    def _refuse_unreachable(self, layers: list["_Layer"]) -> None:
        """Raise where the collapse guard will hold every layer before the budget is met, as weights go now."""
        sign = 1 if self.budget.counts_zeros else -1
        self._reachable.append(self._cost(layers, math.exp(-LOG_SEARCH)))
        past = READINGS // 10
        if self.taken < self.steps / 2 or len(self._reachable) <= past:
            return
        now, before = self._reachable[-1], self._reachable[-1 - past]
        expected = now + max(0.0, (now - before) * sign) * sign * (self.steps - self.taken) / (past * self.interval)
        if (self.budget.target - expected) * sign > self.budget.margin:
            raise self._out_of_reach(expected)

    def _out_of_reach(self, expected: float) -> BudgetError:
        advice = "train for longer, or ask for less" if self.steps > 1 else "freeze grids later, or ask for less"
        if (expected - self.budget.target) * (1 if self.budget.counts_zeros else -1) > 0:
            advice = "channels that died make more zeros than that; ask for more, or leave more multiply-adds"
        return BudgetError(
            f"{self.budget} is out of reach after {self.taken} of {self.steps} steps: about "
            f"{self.budget.format(expected)} is what this run can do; {advice}"
        )


class _Layer:
    """The controller reads one weight as this: sorted values, from which the cost on any grid is counted."""

    def __init__(self, weight: QuantizedWeight, macs: int, exact: bool) -> None:
        self.quantizer: DeadZoneQuantizer = weight.quantizer
        self.numel = weight.original.numel()
        self.macs = macs
        self.theta = self.quantizer.effective_theta()
        self.bits = self.quantizer.bit_width()
        units = self.quantizer.in_units(weight.original.detach())
        norm, in_units = float(weight.original.detach().norm()), float(units.norm())
        self.unit = norm / in_units if norm and in_units else 1.0
        """Weight units in one of `units`, on average over the weights: 1 with one range per tensor."""
        # An odd stride visits every position of a kernel.
        sample = units.flatten()[:: 1 if exact else self.numel // SAMPLE_SIZE | 1].float()
        self.values: np.ndarray = sample.sort().values.cpu().numpy()
        self.magnitudes = np.sort(np.abs(self.values))
        share = float(self.quantizer.live.float().mean()) if self.quantizer.channels else 1.0
        self.alive = self.magnitudes[round((1 - share) * len(self.magnitudes)) :]  # the others are zeros

    def reach(self, q: float) -> float:
        """Compute `abs_range` from the sorted magnitudes, for weights with one range."""
        position = q * (len(self.alive) - 1)
        below, above = self.alive[math.floor(position)], self.alive[math.ceil(position)]
        reach = float(below + (above - below) * (position % 1)) or float(self.alive[-1])
        return max(reach, 1e-30) if reach else 1.0

    def cost(self, kind: Kind, grid: Grid, bits: int) -> float:
        """Count zeros, bit operations with 32-bit activations, or bytes, on a grid at a bit width."""
        borders = grid.full_shift + (np.arange(1, grid.quant_max + 1, dtype=np.float32) - 0.5) * grid.step_size
        zeros = int(np.searchsorted(self.magnitudes, borders[0], side="right")) / len(self.magnitudes)
        if kind == "sparsity":
            return zeros * self.numel
        if kind == "bops":
            return (1 - zeros) * self.macs * bits * FLOAT_BITS
        ends = np.searchsorted(self.values, np.concatenate([-borders[::-1], borders]))
        shares = np.diff(ends, prepend=0, append=len(self.values)) / len(self.values)
        shares = shares[shares > 0]
        return float(-(shares * np.log2(shares)).sum() * self.numel / 8)


def _move(theta: Tensor, factor: float, least: float) -> None:
    """Scale a theta, its magnitude held within [least, MAX_THETA] so that it can return."""
    theta.copy_(torch.copysign((theta.abs() * factor).clamp(least, MAX_THETA), theta))
