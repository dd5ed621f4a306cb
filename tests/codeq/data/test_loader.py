"""The loader: the same batches ahead as plainly, errors where they belong, no thread left behind."""

import threading
import time
from dataclasses import dataclass, field

import pytest
import torch
from torch import Tensor

from codeq.data import batches
from codeq.errors import DataError

pytestmark = pytest.mark.quick

INDICES = torch.arange(20).flip(0).split(6)  # three batches of six, one of two


@dataclass(eq=False)
class FakeSplit:
    """Inputs that tell position and draws; an error at one position."""

    prefetch: bool
    broken: int | None = None
    labels: Tensor = field(default_factory=lambda: torch.arange(20) * 10)
    loaded: list[int] = field(default_factory=list)
    threads: set[str] = field(default_factory=set)
    arrived: threading.Event = field(default_factory=threading.Event)

    def __len__(self) -> int:
        return 20

    def load(self, index: Tensor, draws: Tensor | None = None) -> Tensor:
        if self.broken is not None and self.broken in index.tolist():
            raise DataError(f"{self.broken} is broken")
        self.loaded.append(int(index[0]))
        self.threads.add(threading.current_thread().name)
        self.arrived.set()
        inputs = index.float()[:, None].expand(-1, 2)
        return inputs if draws is None else inputs + draws[:, :2]


@pytest.mark.parametrize("augmented", [False, True])
def test_loading_ahead_gives_the_same_batches(augmented: bool, rng: torch.Generator) -> None:
    draws = [torch.rand(len(index), 5, generator=rng) for index in INDICES] if augmented else None
    plain, ahead = FakeSplit(prefetch=False), FakeSplit(prefetch=True)
    first, second = list(batches(plain, INDICES, draws)), list(batches(ahead, INDICES, draws))
    assert len(first) == len(second) == len(INDICES)
    for index, (inputs, labels), (other_inputs, other_labels) in zip(INDICES, first, second, strict=True):
        assert torch.equal(inputs, other_inputs)
        assert torch.equal(labels, other_labels)
        assert labels.tolist() == [10 * position for position in index.tolist()]
        assert inputs.floor()[:, 0].tolist() == index.tolist()
    assert plain.threads == {threading.current_thread().name}
    assert plain.loaded == ahead.loaded
    assert ahead.threads == {"loader_0"}


def test_a_split_without_the_attribute_is_loaded_plainly() -> None:
    split = FakeSplit(prefetch=False)
    del split.__dict__["prefetch"]
    assert len(list(batches(split, INDICES))) == 4
    assert split.threads == {threading.current_thread().name}


def test_exactly_one_batch_is_loaded_ahead() -> None:
    split = FakeSplit(prefetch=True)
    iterator = batches(split, INDICES)
    assert split.loaded == []  # nothing before it is asked for
    split.arrived.clear()
    next(iterator)
    deadline = time.monotonic() + 10
    while len(split.loaded) < 2 and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.1)
    assert split.loaded == [19, 13]
    next(iterator)
    iterator.close()  # type: ignore[attr-defined]


@pytest.mark.parametrize("prefetch", [False, True])
def test_an_error_is_raised_where_its_batch_is_asked_for(prefetch: bool) -> None:
    split = FakeSplit(prefetch=prefetch, broken=8)  # in the second batch, 13 to 8
    iterator = batches(split, INDICES)
    inputs, _ = next(iterator)
    assert inputs[0, 0] == 19
    with pytest.raises(DataError, match=r"^8 is broken$"):
        next(iterator)
    assert not loaders()


@pytest.mark.parametrize("taken", [0, 1, 4])
def test_closing_early_leaves_no_thread(taken: int) -> None:
    iterator = batches(FakeSplit(prefetch=True), INDICES)
    for _ in range(taken):
        next(iterator)
    iterator.close()  # type: ignore[attr-defined]
    assert not loaders()


def test_leaving_a_loop_by_an_error_leaves_no_thread() -> None:
    def consume() -> None:
        for inputs, _ in batches(FakeSplit(prefetch=True), INDICES):
            raise KeyError(inputs.shape)

    with pytest.raises(KeyError):
        consume()
    deadline = time.monotonic() + 10
    while loaders() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not loaders()


@pytest.mark.parametrize("prefetch", [False, True])
def test_draws_must_be_as_many_as_batches(prefetch: bool) -> None:
    with pytest.raises(ValueError, match="there are draws for 1 batches, expected 4"):
        batches(FakeSplit(prefetch), INDICES, [torch.rand(6, 5)])
    assert list(batches(FakeSplit(prefetch), [])) == []


def loaders() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("loader")]
