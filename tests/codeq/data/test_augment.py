"""Shifts and flips against pixels written down by hand."""

import pytest
import torch

from codeq.data.augment import FLIP, LEFT, TOP, flip, shift
from codeq.data.dataset import AUGMENTATION_DRAWS

pytestmark = pytest.mark.quick

IMAGE = torch.arange(9).reshape(1, 1, 3, 3)
JUST_BELOW_1 = 1 - 2**-24


def draws(top: float = 0.5, left: float = 0.5, flip: float = 0.9) -> torch.Tensor:
    row = torch.full((1, AUGMENTATION_DRAWS), 0.123)
    row[0, TOP], row[0, LEFT], row[0, FLIP] = top, left, flip
    return row


@pytest.mark.parametrize(
    ("pixels", "top", "left", "expected"),
    [
        (1, 0.5, 0.5, [[0, 1, 2], [3, 4, 5], [6, 7, 8]]),
        (1, 0.0, 0.5, [[0, 1, 2], [0, 1, 2], [3, 4, 5]]),
        (1, JUST_BELOW_1, 0.5, [[3, 4, 5], [6, 7, 8], [6, 7, 8]]),
        (1, 0.5, 0.0, [[0, 0, 1], [3, 3, 4], [6, 6, 7]]),
        (1, 0.5, JUST_BELOW_1, [[1, 2, 2], [4, 5, 5], [7, 8, 8]]),
        (1, 0.0, 0.0, [[0, 0, 1], [0, 0, 1], [3, 3, 4]]),
        (2, 0.0, JUST_BELOW_1, [[2, 2, 2], [2, 2, 2], [2, 2, 2]]),
        (1, 0.33, 0.66, [[0, 1, 2], [0, 1, 2], [3, 4, 5]]),
        (1, 0.34, 0.67, [[1, 2, 2], [4, 5, 5], [7, 8, 8]]),
        (9, 0.0, 0.0, [[0, 0, 0], [0, 0, 0], [0, 0, 0]]),
    ],
    ids=["in_place", "down", "up", "right", "left", "corner", "two", "third_below", "third_above", "beyond"],
)
def test_shift_by_hand(pixels: int, top: float, left: float, expected: list[list[int]]) -> None:
    assert shift(IMAGE, pixels, draws(top, left))[0, 0].tolist() == expected


def test_each_image_has_its_own_shift_and_all_channels_share_it() -> None:
    images = torch.stack([IMAGE[0], IMAGE[0]]).repeat(1, 2, 1, 1)
    images[:, 1] += 10
    shifted = shift(images, 1, torch.cat([draws(top=0.0), draws(left=0.0)]))
    assert shifted[0].tolist() == [[[0, 1, 2], [0, 1, 2], [3, 4, 5]], [[10, 11, 12], [10, 11, 12], [13, 14, 15]]]
    assert shifted[1].tolist() == [[[0, 0, 1], [3, 3, 4], [6, 6, 7]], [[10, 10, 11], [13, 13, 14], [16, 16, 17]]]


def test_every_shift_is_as_likely(rng: torch.Generator) -> None:
    count = 9000
    shifted = shift(IMAGE.expand(count, -1, -1, -1), 1, torch.rand(count, AUGMENTATION_DRAWS, generator=rng))
    _, counts = shifted.flatten(1).unique(dim=0, return_counts=True)
    assert len(counts) == 9  # three rows by three columns
    assert (counts - count / 9).abs().max() < 5 * (count / 9) ** 0.5


def test_no_shift_returns_the_images() -> None:
    assert shift(IMAGE, 0, draws(top=0.0)) is IMAGE


@pytest.mark.parametrize(
    ("draw", "expected"), [(0.0, [2, 1, 0]), (0.49, [2, 1, 0]), (0.5, [0, 1, 2]), (0.9, [0, 1, 2])]
)
def test_flip_by_hand(draw: float, expected: list[int]) -> None:
    flipped = flip(IMAGE, draws(flip=draw))
    assert flipped[0, 0, 0].tolist() == expected
    assert flipped[0, 0, :, 1].tolist() == [1, 4, 7]  # rows stay where they are
