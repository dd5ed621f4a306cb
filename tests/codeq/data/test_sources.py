"""Names of data sets, and the options that go with them."""

from typing import Any

import pytest
import torch

from codeq.data import load_dataset
from codeq.errors import DataError

pytestmark = pytest.mark.quick


@pytest.mark.parametrize("source", ["cifar", "mnist:folder", "idx:", "idx", "images:", "cifar10:", "digits:folder", ""])
def test_an_unknown_name_lists_the_known_ones(source: str) -> None:
    with pytest.raises(
        DataError, match=r"^unknown data set '.*', expected digits, idx:DIR, cifar10:DIR or images:DIR$"
    ):
        load_dataset(source)


@pytest.mark.parametrize(("name", "low"), [("shift", 0), ("input_size", 1), ("workers", 0)])
def test_numbers_out_of_range_are_refused(name: str, low: int) -> None:
    options: dict[str, Any] = {name: low - 1}
    with pytest.raises(ValueError, match=f"{name} must be at least {low}, found {low - 1}"):
        load_dataset("digits", **options)


def test_shift_and_flip_are_those_asked_for(rng: torch.Generator) -> None:
    index, draws = torch.arange(100), torch.rand(100, 5, generator=rng)

    def load(**options: Any) -> torch.Tensor:
        return load_dataset("digits", **options).train.load(index, draws)

    plain = load_dataset("digits").train.load(index)
    assert torch.equal(load(shift=0), plain)
    assert torch.equal(load(), load(shift=1, flip=False))
    assert not torch.equal(load(), plain)
    assert not torch.equal(load(shift=2), load(shift=1))
    flipped = load(shift=0, flip=True)
    mirrored = draws[:, 4] < 0.5
    assert torch.equal(flipped[mirrored], plain[mirrored].flip(3))
    assert torch.equal(flipped[~mirrored], plain[~mirrored])
