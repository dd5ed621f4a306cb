"""Re-estimated statistics are the plain average over the batches."""

import torch
from torch import nn

from codeq.batch_norm import reestimate_batch_norm


def test_statistics_are_the_average_over_batches(rng: torch.Generator) -> None:
    model = nn.Sequential(nn.BatchNorm1d(3), nn.Dropout()).train()
    batches = [torch.randn(20, 3, generator=rng) * 3 + 1 for _ in range(4)]
    model(torch.randn(5, 3) * 100)  # stale statistics, to be forgotten
    reestimate_batch_norm(model, batches)
    torch.testing.assert_close(model[0].running_mean, torch.stack([b.mean(0) for b in batches]).mean(0))
    torch.testing.assert_close(model[0].running_var, torch.stack([b.var(0) for b in batches]).mean(0))
    assert model.training
    assert model[0].momentum == 0.1


def test_networks_without_batch_norm_are_not_run() -> None:
    reestimate_batch_norm(nn.Linear(2, 2), [torch.zeros(1, 99)])
