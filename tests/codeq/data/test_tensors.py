"""Splits in memory: what loading gives, and that it changes nothing."""

import pytest
import torch

from codeq.data.tensors import TensorSplit, build_dataset

pytestmark = pytest.mark.quick

PIXELS = torch.tensor([[0, 8], [2, 4]], dtype=torch.uint8).reshape(2, 1, 1, 2)


def test_loading_by_hand() -> None:
    split = TensorSplit(PIXELS, torch.tensor([1, 0]), max_pixel=8, mean=[0.5], std=[0.25], shift=1, flip=True)
    assert len(split) == 2
    assert split.load(torch.tensor([1, 0, 1])).flatten(1).tolist() == [[-1, 0], [-2, 2], [-1, 0]]
    # In place and mirrored; then one to the left, not mirrored.
    draws = torch.tensor([[0.9, 0.9, 0.5, 0.5, 0.0], [0.9, 0.9, 0.5, 0.9, 0.9]])
    assert split.load(torch.tensor([0, 0]), draws).flatten(1).tolist() == [[2, -2], [2, 2]]
    assert split.pixels.flatten().tolist() == [0, 8, 2, 4]


@pytest.mark.parametrize(("size", "expected"), [(8, 1), (27, 1), (28, 2), (32, 2)])
def test_the_shift_grows_with_the_image(size: int, expected: int, rng: torch.Generator) -> None:
    pixels = torch.randint(0, 256, (2, 1, size, size), generator=rng).to(torch.uint8)
    part = (pixels, torch.tensor([0, 1]))
    data = build_dataset(part, part, num_classes=2, max_pixel=255, shift=None, flip=None, source="here")
    assert isinstance(data.train, TensorSplit)
    assert data.train.shift == expected
    assert data.train.flip is False
