"""Range checks: both ends of a range are in it, and what is outside is named."""

from typing import Any

import pytest

from models.arguments import check_image_arguments, check_integers, check_width


@pytest.mark.parametrize("value", [1, 8])
def test_both_ends_are_in_the_range(value: int) -> None:
    check_integers(size=(value, 1, 8))


@pytest.mark.parametrize("value", [0, 9, 1.0, True, "1", None])
def test_what_is_outside_is_named(value: Any) -> None:
    with pytest.raises(ValueError, match=rf"^size must be an integer from 1 to 8, found {value!r}$"):
        check_integers(size=(value, 1, 8))


def test_an_image_is_at_least_as_large_as_the_stride() -> None:
    check_image_arguments(3, 10, 32, smallest=32)
    with pytest.raises(ValueError, match=r"^input_size must be an integer from 32 to 4096, found 31$"):
        check_image_arguments(3, 10, 31, smallest=32)


@pytest.mark.parametrize("width", [0.04, 8.1, float("nan"), True, "1"])
def test_widths_that_are_none(width: Any) -> None:
    with pytest.raises(ValueError, match=r"^width must be a number from 0.05 to 8, found "):
        check_width(width)
    check_width(0.05)
    check_width(8)
