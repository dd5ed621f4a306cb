"""A buffer that the next call reads is refused by name or becomes an input and an output; others are left out."""

import pytest
import torch
from torch import Tensor, nn

from codeq.errors import TraceError
from codeq.graph.nodes import GraphRunner, input_names, output_names
from codeq.graph.state import dropped_writes, state_tensors
from codeq.graph.trace import trace


class Stateful(nn.Module):
    cache: Tensor
    calls: Tensor
    mean: Tensor
    scratch: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("cache", torch.full((1, 2), 0.5))
        self.register_buffer("calls", torch.zeros((), dtype=torch.int64), persistent=False)
        self.register_buffer("mean", torch.zeros(1, 2))
        self.register_buffer("scratch", torch.zeros(1, 2))

    def forward(self, x: Tensor) -> Tensor:
        y = x + self.cache
        self.cache = torch.tanh(y)  # assigned, not copied: torch.export writes it back
        self.calls += 1
        with torch.no_grad():
            self.mean.mul_(0.9).add_(0.1 * x)
        self.scratch.copy_(x)  # overwritten before it is read
        return y + self.scratch


class Counts(nn.Module):
    """One buffer reaches the output by way of another alone."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("step", torch.ones(1))
        self.register_buffer("total", torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        self.total.add_(self.step)
        self.step.mul_(2)
        return x + self.total


def test_state_is_refused_in_one_line_with_the_way_out() -> None:
    with pytest.raises(TraceError, match=r"^the buffer 'cache' is state: [^\n]+ a result of forward$"):
        trace(Stateful(), (torch.rand(1, 2),), dynamic_batch=False)


def test_state_of_a_batch_of_one_is_named_where_the_batch_is_open() -> None:
    class Joins(Stateful):
        def forward(self, x: Tensor) -> Tensor:
            y = torch.cat([self.cache, x], 1)
            self.cache.copy_(x)
            return y

    with pytest.raises(TraceError, match=r"^the buffer 'cache' is state: "):
        trace(Joins(), (torch.rand(2, 2),))


def test_state_becomes_an_input_and_an_output_and_what_nothing_reads_is_left_out(rng: torch.Generator) -> None:
    model = Stateful()
    exported = trace(model, (torch.rand(1, 2),), dynamic_batch=False, state="io")
    exported.validate()
    assert input_names(exported) == ("input", "cache")
    assert output_names(exported) == ("output", "cache")
    assert dropped_writes(exported) == ("calls", "mean", "scratch")
    state = state_tensors(exported)["cache"]
    assert state.tolist() == [[0.5, 0.5]]
    for x in torch.randn(3, 1, 2, generator=rng):
        found, state = GraphRunner(exported).compute((x, state))
        assert torch.equal(found, model(x))
        assert torch.equal(state, model.cache)


def test_state_behind_state_is_state(rng: torch.Generator) -> None:
    model = Counts()
    exported = trace(model, (torch.rand(2, 1),), state="io")
    assert input_names(exported)[1:] == output_names(exported)[1:] == ("step", "total")
    state = tuple(state_tensors(exported).values())
    for x in torch.randn(3, 2, 1, generator=rng):
        found, *left = GraphRunner(exported).compute((x, *state))
        state = tuple(left)
        assert torch.equal(found, model(x))


def test_a_write_into_a_buffer_that_cannot_be_followed_is_refused_by_name() -> None:
    class Out(Stateful):
        def forward(self, x: Tensor) -> Tensor:
            torch.add(self.cache, 1, out=self.cache)
            return x

    with pytest.raises(TraceError, match="'cache' is written in place in a way that cannot be followed"):
        trace(Out(), (torch.rand(1, 2),), dynamic_batch=False)
