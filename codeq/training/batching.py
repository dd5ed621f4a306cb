"""Cut the training set into batches, the same ones on every process, of which each takes its share."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from codeq.data import AUGMENTATION_DRAWS, Split, batches
from codeq.training.distributed import Ranks, share

SMALLEST_BATCH = 2
"""Inputs that BatchNorm needs in training: one alone has no variance."""


class Batch(NamedTuple):
    """Holds this process's share of a batch; `size` counts the inputs of all processes together."""

    inputs: Tensor
    labels: Tensor
    size: int


@dataclass(frozen=True, eq=False)
class TrainingBatches:
    """Cuts a training set into batches of `batch_size` inputs over all processes; `len` is how many an epoch has."""

    split: Split
    batch_size: int
    ranks: Ranks

    def __len__(self) -> int:
        return len(self._cut(torch.arange(len(self.split))))

    def epoch(self, generator: torch.Generator) -> Iterator[Batch]:
        """Yield the batches of one epoch, shuffled and augmented by numbers drawn from `generator`."""
        order = torch.randperm(len(self.split), generator=generator)
        draws = torch.rand(len(order), AUGMENTATION_DRAWS, generator=generator)
        indices = self._cut(order)
        sizes = [len(index) for index in indices]
        shares = [share(index, self.ranks) for index in indices]
        shared_draws = [share(part, self.ranks) for part in draws.split(sizes)]
        for size, (inputs, labels) in zip(sizes, batches(self.split, shares, shared_draws), strict=True):
            yield Batch(inputs, labels, size)

    def in_order(self, count: int) -> Iterator[Tensor]:
        """Yield the inputs of the first `count` batches, neither shuffled nor augmented."""
        indices = self._cut(torch.arange(len(self.split)))[:count]
        for inputs, _ in batches(self.split, [share(index, self.ranks) for index in indices]):
            yield inputs

    def first(self) -> Batch:
        """Return a batch of the first inputs, augmented by numbers from torch's global generator."""
        index = torch.arange(min(self.batch_size, len(self.split)))
        draws = torch.rand(len(index), AUGMENTATION_DRAWS)
        ((inputs, labels),) = batches(self.split, [share(index, self.ranks)], [share(draws, self.ranks)])
        return Batch(inputs, labels, len(index))

    def _cut(self, order: Tensor) -> tuple[Tensor, ...]:
        return split_batches(order, self.batch_size, max(SMALLEST_BATCH, self.ranks.world_size))


def split_batches(order: Tensor, batch_size: int, least: int = SMALLEST_BATCH) -> tuple[Tensor, ...]:
    """Split positions into batches; a last one of fewer than `least` inputs joins the one before.

    Args:
        order: Positions in the training set, int64 `(N,)`.
        batch_size: Inputs per batch.
        least: The smallest batch: `SMALLEST_BATCH`, or an input for every process.

    Returns:
        Views of `order`, but for a last batch that was joined.
    """
    parts = order.split(batch_size)
    if len(parts) > 1 and len(parts[-1]) < least:
        return (*parts[:-2], torch.cat(parts[-2:]))
    return parts
