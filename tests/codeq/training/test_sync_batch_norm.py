"""Moments of a whole batch from those of its parts. Training with several ranks is in test_distributed.py."""

import torch
from torch import nn

from codeq.training.sync_batch_norm import SYNCHRONIZED, merge_moments


def test_merged_moments_by_hand() -> None:
    # Parts (1, 3) and (5): mean 3, squared deviations 4 + 0 + 4.
    counts, means, squares = torch.tensor([[2.0], [1.0]]), torch.tensor([[2.0], [5.0]]), torch.tensor([[2.0], [0.0]])
    count, mean, merged = merge_moments(counts, means, squares)
    assert (count.tolist(), mean.tolist(), merged.tolist()) == ([3], [3], [8])


def test_a_synchronized_norm_is_an_ordinary_one_without_other_ranks(rng: torch.Generator) -> None:
    x = torch.randn(4, 3, 5, 5, generator=rng)
    plain, synchronized = nn.BatchNorm2d(3), SYNCHRONIZED[nn.BatchNorm2d](3)
    assert torch.equal(plain(x), synchronized(x))
    for name, tensor in plain.state_dict().items():
        assert torch.equal(tensor, synchronized.state_dict()[name])
