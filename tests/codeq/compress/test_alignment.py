"""Aligned weights are the least-squares answer to the compressed network's inputs."""

import pytest
import torch

from codeq.compress.alignment import ALIGNING, aligned, damped
from codeq.compress.problem import LayerProblem


def test_they_are_the_regression_on_samples(rng: torch.Generator) -> None:
    y = torch.randn(200, 6, generator=rng, dtype=torch.float64)
    x = y + 0.3 * torch.randn(200, 6, generator=rng, dtype=torch.float64)
    weight = torch.randn(4, 6, generator=rng)
    moments = x.T @ x / 200
    problem = LayerProblem(weight, moments, x.T @ y / 200)
    found = aligned(problem)
    mean = ALIGNING * float(moments.diagonal().mean())
    # What is added to both moments is as many inputs more that both networks see alike.
    more = torch.eye(6, dtype=torch.float64) * (200 * mean) ** 0.5
    regression = torch.linalg.lstsq(torch.cat([x, more]), torch.cat([y, more]) @ weight.double().T).solution.T
    assert torch.allclose(found, regression)
    assert not torch.allclose(found, weight.double(), atol=0.01)


def test_without_cross_moments_weights_stay(rng: torch.Generator) -> None:
    weight = torch.randn(4, 6, generator=rng)
    moments = torch.eye(6, dtype=torch.float64)
    assert torch.equal(aligned(LayerProblem(weight, moments)), weight.double())


@pytest.mark.parametrize("value", [0.0, float("nan")])
def test_inputs_that_are_nothing_have_no_moments(value: float) -> None:
    assert damped(LayerProblem(torch.ones(1, 2), torch.full((2, 2), value, dtype=torch.float64))) is None


def test_damping_is_a_share_of_the_mean() -> None:
    moments = torch.diag(torch.tensor([1.0, 3.0], dtype=torch.float64))
    found = damped(LayerProblem(torch.ones(1, 2), moments))
    assert found is not None
    assert torch.allclose(found.diagonal(), torch.tensor([1.06, 3.06], dtype=torch.float64))
    assert float(moments[0, 0]) == 1.0
