"""This module measures what the quantizers add to a training step.

One network trains in float, and attached: with the operator compiled, eager, and as its plain definition with an
exact quantile each time (`DeadZoneQuantizer.forward_plain`). The operator alone runs on one large weight the same ways.
Everything takes turns, and medians are compared. Memory is what torch allocates, counted over one step: weights,
gradients, optimizer state, and the peak of what comes and goes.
"""

import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile

import codeq
import models
from codeq.errors import CodeqError
from codeq.quantizer import fused
from codeq.quantizer.abs_range import REFRESH_CALLS
from codeq.quantizer.dead_zone import DeadZoneQuantizer
from codeq.toolkit.quiet import quiet_torch
from codeq.toolkit.table import fold_line, format_bytes, render_table
from runtime_tests.networks import open_dead_zones

OPERATOR_SHAPE = (512, 512, 3, 3)
"""ResNet-18's largest weight: 2.36 million elements."""
THETA = 0.7
"""Where training takes theta_dz: with the paper's 3, nothing would be zero."""
WAYS = ("compiled", "eager", "plain")


@dataclass(frozen=True)
class StepCost:
    """Holds the cost of one way to take a step.

    Ratios are over the float step; for an operator, over its plain definition.
    """

    name: str
    milliseconds: float
    ratio: float
    peak_bytes: int | None = None
    memory_ratio: float | None = None


@dataclass(frozen=True)
class StepReport:
    """Holds the costs of steps and of the operator alone; times are medians of interleaved rounds."""

    network: str
    batch: int
    input_size: int
    rounds: int
    threads: int
    steps: tuple[StepCost, ...]
    operators: tuple[StepCost, ...]

    def to_dict(self) -> dict[str, Any]:
        return asdict(self) | {"versions": {"torch": str(torch.__version__)}}

    def __str__(self) -> str:
        steps = [
            (cost.name, f"{cost.milliseconds:.1f} ms", f"{cost.ratio:.2f}x", format_bytes(cost.peak_bytes or 0),
             f"{cost.memory_ratio:.2f}x")
            for cost in self.steps
        ]  # fmt: skip
        operators = [(cost.name, f"{cost.milliseconds:.2f} ms", f"{cost.ratio:.1f}x") for cost in self.operators]
        weights = "x".join(map(str, OPERATOR_SHAPE))
        return "\n".join(
            [
                render_table((f"step of {self.network}", "time", "of float", "peak memory", "of float"), steps),
                "",
                render_table((f"operator on {weights}", "time", "cheaper than plain"), operators),
                fold_line(
                    f"batch {self.batch}, {self.input_size} x {self.input_size} pixels, {self.threads} threads, "
                    f"medians of {self.rounds} interleaved rounds, torch {torch.__version__}",
                    2,
                ),
            ]
        )


def measure_step(network: str = "resnet18", batch: int = 16, input_size: int = 64, rounds: int = 15) -> StepReport:
    """Measure time and memory of a training step, and of the operator alone.

    Args:
        network: Registry name.
        batch, input_size: Of the random inputs.
        rounds: How often everything takes its turn.

    Raises:
        CodeqError: The network does not take images.
    """
    try:
        arguments = models.arguments_for(network, (3, input_size, input_size), num_classes=10)
    except ValueError as error:
        raise CodeqError(f"{network}: {error}") from error
    inputs = torch.randn(batch, 3, input_size, input_size)
    labels = torch.randint(0, 10, (batch,))
    steps: dict[str, Callable[[], None]] = {}
    trained: dict[str, tuple[nn.Module, torch.optim.Optimizer]] = {}
    for name in ("float", *WAYS):
        torch.manual_seed(0)
        model = models.create(network, **arguments)
        if name != "float":
            codeq.attach(model, bits=4)
            open_dead_zones(model, THETA)
        optimizer = torch.optim.SGD(codeq.param_groups(model, lr=1e-3))
        trained[name] = model, optimizer
        steps[name] = _step(name, model, optimizer, inputs, labels)
    peaks = {}
    for name, step in steps.items():
        step()
        peaks[name] = _peak_bytes(step, *trained[name])
    times = _take_turns(steps, rounds)
    # As many calls as share one reading of the range, which is part of what the operator costs.
    spans = _take_turns({name: _operator(name, calls=REFRESH_CALLS) for name in WAYS}, rounds)
    operators = {name: span / REFRESH_CALLS for name, span in spans.items()}
    return StepReport(
        network=network,
        batch=batch,
        input_size=input_size,
        rounds=rounds,
        threads=torch.get_num_threads(),
        steps=tuple(
            StepCost(name, times[name], times[name] / times["float"], peaks[name], peaks[name] / peaks["float"])
            for name in steps
        ),
        operators=tuple(StepCost(name, operators[name], operators["plain"] / operators[name]) for name in WAYS),
    )


def _step(
    way: str, model: nn.Module, optimizer: torch.optim.Optimizer, inputs: Tensor, labels: Tensor
) -> Callable[[], None]:
    def step() -> None:
        optimizer.zero_grad()
        with _operator_way(way):
            F.cross_entropy(model(inputs), labels).backward()
        optimizer.step()

    return step


def _operator(way: str, calls: int) -> Callable[[], None]:
    torch.manual_seed(0)
    quantizer = DeadZoneQuantizer(4, theta_init=THETA)
    weight = nn.Parameter(torch.randn(OPERATOR_SHAPE) * 0.02)
    upstream = torch.randn(OPERATOR_SHAPE)

    def run() -> None:
        with _operator_way(way):
            for _ in range(calls):
                torch.autograd.grad(quantizer(weight), (weight, quantizer.theta_dz), upstream)

    return run


@contextmanager
def _operator_way(way: str) -> Iterator[None]:
    """Let quantizers compute compiled, eager or plain within a block; a float network has none."""
    forward = DeadZoneQuantizer.forward
    fused.set_compile(way == "compiled")
    if way == "plain":
        DeadZoneQuantizer.forward = DeadZoneQuantizer.forward_plain  # type: ignore[method-assign]
    try:
        yield
    finally:
        DeadZoneQuantizer.forward = forward  # type: ignore[method-assign]
        fused.set_compile(True)


def _take_turns(calls: dict[str, Callable[[], None]], rounds: int) -> dict[str, float]:
    """Time each call in milliseconds, the median over the rounds of all calls in turn."""
    spans: dict[str, list[float]] = {name: [] for name in calls}
    for call in calls.values():
        call()
    for _ in range(rounds):
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            spans[name].append(1e3 * (time.perf_counter() - start))
    return {name: statistics.median(times) for name, times in spans.items()}


def _peak_bytes(step: Callable[[], None], model: nn.Module, optimizer: torch.optim.Optimizer) -> int:
    """Measure the bytes of tensors that are alive at once in a step, at most.

    They are those alive before it, and the peak of what torch's allocator hands out and takes back.
    """
    alive = sum(tensor.nbytes for tensor in (*model.parameters(), *model.buffers()))
    alive += sum(parameter.grad.nbytes for parameter in model.parameters() if parameter.grad is not None)
    alive += sum(
        value.nbytes for state in optimizer.state.values() for value in state.values() if isinstance(value, Tensor)
    )
    with quiet_torch(), profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        step()
    events = profiler.profiler.kineto_results.events()
    changes = sorted((event.start_ns(), event.nbytes()) for event in events if event.name() == "[memory]")
    current = peak = alive
    for _, change in changes:
        current += change
        peak = max(peak, current)
    return peak
