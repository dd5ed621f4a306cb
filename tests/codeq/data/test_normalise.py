"""Statistics of pixels by hand and by torch, and inputs normalised by them."""

import pytest
import torch

from codeq.data.normalise import channel_statistics, normalise
from codeq.errors import DataError

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
