"""The range of a weight: torch's quantile exactly, by sampling where tensors are large."""

import pytest
import torch

from codeq.quantizer import abs_range as module
from codeq.quantizer.abs_range import abs_quantile, abs_range, plain_abs_quantile

pytestmark = pytest.mark.quick


@pytest.mark.parametrize("size", [1, 2, 99, 100, 101, 1000, 12_345])
@pytest.mark.parametrize("q", [0.0, 0.5, 0.78, 0.99, 1.0])
def test_abs_quantile_is_torch_quantile(size: int, q: float, rng: torch.Generator) -> None:
    w = torch.randn(size, generator=rng)
    assert abs_quantile(w, q).item() == pytest.approx(torch.quantile(w.abs(), q).item(), rel=1e-6)
    assert torch.equal(abs_quantile(w, q), plain_abs_quantile(w, q))


def large(kind: str, rng: torch.Generator) -> torch.Tensor:
    w = torch.randn(300_000, generator=rng)
    return {
        "normal": w,
        "heavy tails": w**5,
        "mostly zeros": w * (torch.rand(300_000, generator=rng) < 0.02),
        "constant": torch.ones_like(w),
        "sorted": w.abs().sort().values,
        "periodic": w[:512].repeat(600)[:300_000],
    }[kind]


@pytest.mark.parametrize("kind", ["normal", "heavy tails", "mostly zeros", "constant", "sorted", "periodic"])
@pytest.mark.parametrize("q", [0.78, 0.99, 0.9999])
def test_a_sample_does_not_change_the_quantile(kind: str, q: float, rng: torch.Generator) -> None:
    w = large(kind, rng)
    position = q * (len(w) - 1)
    ordered = w.abs().sort().values
    below = int(position)
    expected = torch.lerp(ordered[below], ordered[below + 1], position - below)
    assert abs_quantile(w, q).item() == plain_abs_quantile(w, q).item() == expected.item()


def test_a_sample_saves_sorting(monkeypatch: pytest.MonkeyPatch, rng: torch.Generator) -> None:
    w = torch.randn(300_000, generator=rng).abs()
    assert len(module._above_bound(w, 3000)) < 9000
    # Where the sample misleads (here: it sees only the large ones) all weights are sorted.
    w = torch.zeros(300_000)
    w[:: 300_000 // module.SAMPLE_SIZE | 1] = 1.0
    assert len(module._above_bound(w, 250_000)) == 300_000


@pytest.mark.parametrize(
    ("w", "expected"),
    [
        (torch.zeros(5), 1.0),
        (torch.cat([torch.zeros(999), torch.tensor([-0.75])]), 0.75),
        (torch.full((3,), 1e-38), 1e-30),
    ],
    ids=["zeros", "one survivor", "denormal"],
)
def test_a_range_is_positive(w: torch.Tensor, expected: float) -> None:
    assert abs_range(w, 0.99) == pytest.approx(expected)
