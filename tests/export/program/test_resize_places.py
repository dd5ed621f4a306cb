"""Places of a bilinear resize in fixed point, by hand."""

import pytest

from export.program.resize_places import resize_places, resized

pytestmark = pytest.mark.quick

WHOLE = 2**11


@pytest.mark.parametrize(
    ("size", "wanted", "align", "first", "weight"),
    [
        (2, 4, False, [0, 0, 0, 1], [0, WHOLE // 4, 3 * WHOLE // 4, 0]),
        (4, 2, False, [0, 2], [WHOLE // 2, WHOLE // 2]),
        (3, 5, True, [0, 0, 1, 1, 2], [0, WHOLE // 2, 0, WHOLE // 2, 0]),
        (3, 1, True, [0], [0]),
        (3, 1, False, [1], [0]),
        (1, 3, False, [0, 0, 0], [0, 0, 0]),
        (2, 3, True, [0, 0, 1], [0, WHOLE // 2, 0]),
    ],
    ids=["twice", "half", "corners", "one_of_corners", "one", "of_one", "corners_between"],
)
def test_places(size: int, wanted: int, align: bool, first: list[int], weight: list[int]) -> None:
    places = resize_places(size, wanted, align=align)
    assert places is not None
    assert places.first.tolist() == first
    assert places.second.tolist() == [min(place + 1, size - 1) for place in first]
    assert places.weight.tolist() == weight


def test_places_that_a_fused_sum_would_round_otherwise_are_none() -> None:
    assert resize_places(7, 387, align=False) is None
    assert resize_places(7, 387, align=True) is not None
    assert all(resize_places(size, size * factor, align=False) for size in range(1, 80) for factor in (1, 2, 3, 4, 31))
    assert resize_places(13, 7, align=False) is not None  # the whole second pixel, or none of the next


def test_sizes_are_given_or_follow_from_factors() -> None:
    assert resized((4, 5), (7, 8), None) == (7, 8)
    assert resized((4, 5), None, (2.0, 1.3)) == (8, 6)
