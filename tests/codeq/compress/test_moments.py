"""Test that moments estimated from a few inputs are nearer to those of all than the plain ones."""

import pytest
import torch

from codeq.compress.moments import estimate, shrinkage

pytestmark = pytest.mark.quick


def test_independent_columns_are_shrunk_and_dependent_ones_are_not() -> None:
    generator = torch.Generator().manual_seed(0)
    independent = torch.randn(30, 60, generator=generator)
    mixed = torch.randn(3000, 4, generator=generator) @ torch.randn(4, 60, generator=generator)
    shares = []
    for samples in (independent, mixed):
        centred = samples - samples.mean(0)
        shares.append(shrinkage([centred[:, None]], (centred.T @ centred).double() / len(centred)))
    assert shares[0] > 0.9
    assert shares[1] < 0.01


def test_the_share_is_that_of_schaefer_and_strimmer() -> None:
    # Their formula, entry by entry: sum of Var(s_jk) over sum of s_jk^2, both for j other than k.
    x = torch.randn(12, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    x[:, 1] += 2 * x[:, 0]
    x = x - x.mean(0)
    products = x[:, :, None] * x[:, None]
    variance = products.var(0, unbiased=True) / len(x)
    beside = ~torch.eye(5, dtype=torch.bool)
    expected = float(variance[beside].sum() / products.mean(0)[beside].square().sum())
    assert shrinkage([x[:, None].float()], products.mean(0)) == pytest.approx(expected, rel=1e-4)


def test_places_of_one_input_say_no_more_than_one_place_where_they_are_alike() -> None:
    x = torch.randn(20, 8, generator=torch.Generator().manual_seed(2))
    x -= x.mean(0)
    covariance = (x.T @ x).double() / 20
    repeated = x[:, None].expand(20, 16, 8)
    assert shrinkage([repeated], covariance) == pytest.approx(shrinkage([x[:, None]], covariance), rel=1e-4)


def test_estimates_are_nearer_to_the_truth() -> None:
    generator = torch.Generator().manual_seed(3)
    mix = torch.eye(48) + 0.1 * torch.randn(48, 48, generator=generator)
    mean = torch.rand(48, generator=generator)
    y = torch.randn(4040, 48, generator=generator) @ mix + mean
    x = y + 0.1 * torch.randn(4040, 48, generator=generator)
    batches = [(x[:25, None], y[:25, None]), (x[25:40, None], y[25:40, None])]
    found = estimate(*zip(*batches, strict=True))
    plain = (x[:40].T @ x[:40]).double() / 40, (x[:40].T @ y[:40]).double() / 40
    truth = (x.T @ x).double() / 4040, (x.T @ y).double() / 4040
    for mine, other, wanted in zip(found, plain, truth, strict=True):
        assert float((mine - wanted).norm()) < 0.8 * float((other - wanted).norm())


def test_one_input_and_dead_columns_are_taken_as_they_are() -> None:
    x = torch.rand(4, 3)
    x[:, 1] = 0.0
    moments, cross = estimate([x[None]], [x[None]])
    assert torch.allclose(moments, (x.T @ x).double() / 4, atol=1e-6)
    assert torch.equal(moments[1], torch.zeros(3, dtype=torch.float64))
    assert torch.allclose(moments, cross)
