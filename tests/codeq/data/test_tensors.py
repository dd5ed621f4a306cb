"""Splits in memory: what they normalise by, and that loading changes nothing."""

import pytest
import torch

from codeq.data.normalise import channel_statistics, normalise
from codeq.data.tensors import TensorSplit, build_dataset
from codeq.errors import DataError

pytestmark = pytest.mark.quick

PIXELS = torch.tensor([[0, 8], [2, 4]], dtype=torch.uint8).reshape(2, 1, 1, 2)


def test_statistics_by_hand() -> None:
    # 0, 8, 2, 4 of 8: mean 3.5 / 8; squares around it 12.25 + 20.25 + 2.25 + 0.25 = 35, over three: 35 / 3.
    mean, std = channel_statistics(PIXELS, 8, "here")
    assert mean == [3.5 / 8]
    assert std == [pytest.approx((35 / 3) ** 0.5 / 8)]


def test_statistics_are_torchs_of_each_channel(rng: torch.Generator) -> None:
    pixels = torch.randint(0, 256, (20, 3, 5, 4), generator=rng).to(torch.uint8)
    pixels[:, 1] //= 2
    mean, std = channel_statistics(pixels, 255, "here")
    scaled = pixels.double() / 255
    assert mean == pytest.approx(scaled.mean((0, 2, 3)).tolist())
    assert std == pytest.approx(scaled.transpose(0, 1).flatten(1).std(1).tolist())
    inputs = normalise(pixels, 255, mean, std)
    torch.testing.assert_close(inputs.mean((0, 2, 3)), torch.zeros(3), atol=1e-5, rtol=0)
    torch.testing.assert_close(inputs.transpose(0, 1).flatten(1).std(1), torch.ones(3))


def test_a_constant_channel_is_named() -> None:
    pixels = PIXELS.repeat(1, 3, 1, 1)
    pixels[:, 1] = 7
    with pytest.raises(DataError, match=r"^here: all training pixels of channel 1 are equal; there is nothing"):
        channel_statistics(pixels, 8, "here")
    with pytest.raises(DataError, match=r"^here: all training pixels are equal"):
        channel_statistics(PIXELS[:1, :, :, :1], 8, "here")


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
