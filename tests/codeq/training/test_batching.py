"""Batches: sizes by hand, every input once in an epoch, shares of several ranks that make up the whole."""

import pytest
import torch
from torch import Tensor

from codeq.data.tensors import TensorSplit
from codeq.training.batching import TrainingBatches, split_batches
from codeq.training.distributed import Ranks

ALONE = Ranks(0, 1)


@pytest.fixture
def split() -> TensorSplit:
    """Nine images that say which one they are, neither shifted nor mirrored."""
    pixels = torch.arange(9, dtype=torch.uint8).reshape(9, 1, 1, 1)
    return TensorSplit(pixels, torch.arange(9), max_pixel=1, mean=[0.0], std=[1.0], shift=0, flip=False)


def test_a_last_batch_that_is_too_small_joins_the_one_before() -> None:
    assert [len(batch) for batch in split_batches(torch.arange(9), 4)] == [4, 5]
    assert [len(batch) for batch in split_batches(torch.arange(10), 4)] == [4, 4, 2]
    assert [len(batch) for batch in split_batches(torch.arange(1), 4)] == [1]
    assert [len(batch) for batch in split_batches(torch.arange(10), 4, least=3)] == [4, 6]


def test_an_epoch_has_every_input_once_in_the_order_of_the_generator(split: TensorSplit) -> None:
    batches = TrainingBatches(split, 4, ALONE)
    epochs = [list(batches.epoch(torch.Generator().manual_seed(seed))) for seed in (1, 1, 2)]
    assert [batch.size for batch in epochs[0]] == [4, 5]
    assert len(batches) == 2
    first, again, other = ([int(label) for batch in epoch for label in batch.labels] for epoch in epochs)
    assert first == again != other
    assert sorted(first) == sorted(other) == list(range(9))
    assert all(torch.equal(batch.inputs.flatten().long(), batch.labels) for batch in epochs[0])


def test_the_ranks_shares_are_the_batches_of_one_process(split: TensorSplit) -> None:
    def labels(ranks: Ranks) -> list[Tensor]:
        batches = list(TrainingBatches(split, 4, ranks).epoch(torch.Generator().manual_seed(0)))
        assert [batch.size for batch in batches] == [4, 5]
        return [batch.labels for batch in batches]

    parts = zip(labels(Ranks(0, 2)), labels(Ranks(1, 2)), strict=True)
    for whole, both in zip(labels(ALONE), parts, strict=True):
        assert torch.equal(whole, torch.cat(both))


def test_batches_in_order_and_the_first_one(split: TensorSplit) -> None:
    batches = TrainingBatches(split, 4, ALONE)
    assert [inputs.flatten().tolist() for inputs in batches.in_order(1)] == [[0, 1, 2, 3]]
    assert sum(len(inputs) for inputs in batches.in_order(100)) == 9
    assert batches.first().labels.tolist() == [0, 1, 2, 3]
