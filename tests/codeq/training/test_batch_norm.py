"""Re-estimated statistics are the plain average over the batches."""

import pytest
import torch
from torch import nn

from codeq.training.batch_norm import reestimate_batch_norm

pytestmark = pytest.mark.quick


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


def test_a_channel_that_never_varies_amplifies_nothing(rng: torch.Generator) -> None:
    norm = nn.BatchNorm1d(3)
    nn.init.constant_(norm.bias, 0.5)
    batch = torch.randn(50, 3, generator=rng)
    batch[:, 1], batch[:, 2] = 7.3, batch[:, 2] * 1e-2
    reestimate_batch_norm(norm, [batch])
    norm.eval()
    torch.testing.assert_close(norm(batch)[:, 1], torch.full((50,), 0.5))
    torch.testing.assert_close(norm(batch + 1e-3)[:, 1], torch.full((50,), 0.5), rtol=0, atol=2e-3)
    assert norm.running_var is not None
    torch.testing.assert_close(norm.running_var[[0, 2]], batch.var(0)[[0, 2]])
