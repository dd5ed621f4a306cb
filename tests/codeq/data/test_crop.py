"""Crops against boxes written down by hand, and against the definition over many draws."""

import math

import pytest
import torch

from codeq.data.crop import AREA_RANGE, RATIO_RANGE, central_box, random_box

pytestmark = pytest.mark.quick


def draws(area: float, ratio: float, top: float = 0.0, left: float = 0.0) -> list[float]:
    return [area, ratio, top, left, 0.5]


def area_draw(area: float) -> float:
    return (area - AREA_RANGE[0]) / (AREA_RANGE[1] - AREA_RANGE[0])


@pytest.mark.parametrize(
    ("size", "row", "expected"),
    [
        # A quarter of the area, ratio 1 (its logarithm is the middle of the range): 50 x 50.
        ((100, 100), draws(area_draw(0.25), 0.5), (0, 0, 50, 50)),
        # 51 places each way: the last of them, and the one at a half.
        ((100, 100), draws(area_draw(0.25), 0.5, top=0.999, left=0.5), (25, 50, 75, 100)),
        # Ratio 3/4 at draw 0: 0.12 * 40000 = 4800 = 60 x 80.
        ((200, 200), draws(area_draw(0.12), 0.0), (0, 0, 60, 80)),
        # The smallest area: 0.08 * 40000 = 3200, square: 56.57 rounds to 57.
        ((200, 200), draws(0.0, 0.5, top=0.999), (0, 143, 57, 200)),
        # One pixel is one pixel.
        ((1, 1), draws(0.5, 0.5), (0, 0, 1, 1)),
        # No try fits an image four times as wide as high (64 % of a strip is at least 1.6 times its height):
        # the widest ratio in its middle, 100 * 4/3 = 133.
        ((10000, 100), draws(0.99, 0.5), (4933, 0, 5066, 100)),
        ((100, 10000), draws(0.99, 0.5), (0, 4933, 100, 5066)),
    ],
    ids=["quarter", "last_place", "narrow", "smallest", "one_pixel", "strip", "column"],
)
def test_random_box_by_hand(size: tuple[int, int], row: list[float], expected: tuple[int, ...]) -> None:
    assert random_box(*size, row) == expected


@pytest.mark.parametrize("size", [(400, 500), (500, 375), (30, 90)], ids=str)
def test_random_boxes_are_as_defined(size: tuple[int, int], rng: torch.Generator) -> None:
    boxes = [random_box(*size, row) for row in torch.rand(4000, 5, generator=rng).tolist()]
    edges = torch.tensor(boxes)
    assert edges[:, :2].min() == 0
    assert edges[:, 2].max() == size[0]
    assert edges[:, 3].max() == size[1]
    width, height = (edges[:, 2:] - edges[:, :2]).double().T
    area, log_ratio = width * height / math.prod(size), (width / height).log()
    pixel = 1 / min(width.min(), height.min())
    assert area.min() >= AREA_RANGE[0] - pixel
    assert log_ratio.min() >= math.log(RATIO_RANGE[0]) - 2 * pixel
    assert log_ratio.max() <= math.log(RATIO_RANGE[1]) + 2 * pixel

    # Accepted tries are uniform where they fit: simulated directly, with another generator.
    generator = torch.Generator().manual_seed(5)
    tries = torch.rand(4000, 10, 2, generator=generator).double()
    areas = AREA_RANGE[0] + tries[..., 0] * (AREA_RANGE[1] - AREA_RANGE[0])
    ratios = torch.exp(math.log(RATIO_RANGE[0]) * (1 - 2 * tries[..., 1]))
    fits = (areas * ratios <= size[0] / size[1]) & (areas / ratios <= size[1] / size[0])
    first = fits.int().argmax(1)
    fallback = min(size[0], size[1] * 4 / 3) * min(size[1], size[0] * 4 / 3) / math.prod(size)
    expected = areas.gather(1, first[:, None])[:, 0].where(fits.any(1), fallback)
    assert area.mean().item() == pytest.approx(expected.mean().item(), abs=0.02)
    assert area.std().item() == pytest.approx(expected.std().item(), abs=0.02)


def test_later_tries_depend_on_the_draws_alone() -> None:
    row = draws(0.99, 0.5, 0.25, 0.75)  # 99 % of the area, square: does not fit 400 x 500
    assert random_box(400, 500, row) == random_box(400, 500, row)
    others = {random_box(400, 500, draws(0.99, 0.5 + step / 1000, 0.25, 0.75)) for step in range(20)}
    assert len(others) > 15


@pytest.mark.parametrize(
    ("size", "input_size", "expected"),
    [
        ((256, 256), 224, (16, 16, 240, 240)),
        ((512, 256), 224, (144, 16, 368, 240)),
        # The shorter side, 512, is halved: everything doubles.
        ((512, 1024), 224, (32, 288, 480, 736)),
        # 8 * 256 / 224 rounds to 9: half a pixel on each side, and half rounds to even.
        ((9, 9), 8, (0, 0, 8, 8)),
        ((1, 1), 1, (0, 0, 1, 1)),
    ],
    ids=["as_is", "wide", "high", "small", "one_pixel"],
)
def test_central_box_by_hand(size: tuple[int, int], input_size: int, expected: tuple[int, ...]) -> None:
    assert central_box(*size, input_size) == pytest.approx(expected)
    assert central_box(*size, (input_size, input_size)) == central_box(*size, input_size)


@pytest.mark.parametrize(
    ("size", "input_size", "expected"),
    [
        # 224 x 448 of 256 x 512, which the image has, then is twice as high as, then twice as wide as.
        ((512, 256), (224, 448), (32, 16, 480, 240)),
        ((512, 512), (224, 448), (32, 144, 480, 368)),
        ((1024, 256), (224, 448), (288, 16, 736, 240)),
        ((128, 256), (224, 112), (8, 16, 120, 240)),
        # Half as large as needed: the box is half of the input.
        ((256, 256), (224, 448), (16, 72, 240, 184)),
    ],
    ids=["as_is", "high", "wide", "upright", "enlarged"],
)
def test_central_box_of_inputs_that_are_not_square(
    size: tuple[int, int], input_size: tuple[int, int], expected: tuple[int, ...]
) -> None:
    assert central_box(*size, input_size) == pytest.approx(expected)


def test_central_boxes_stay_within_the_image() -> None:
    for width in range(1, 60):
        for height in range(1, 60):
            for input_size in (1, 7, 32, (7, 20), (32, 3)):
                left, top, right, bottom = central_box(width, height, input_size)
                assert 0 <= left < right <= width
                assert 0 <= top < bottom <= height
