"""Words of training's flags become values, or one line that says what was expected."""

from argparse import ArgumentTypeError
from collections.abc import Callable
from typing import Any

import pytest

from codeq.training.flag_values import parse_bits, parse_model, parse_share, parse_size


@pytest.mark.parametrize(
    ("parse", "text", "value"),
    [
        (parse_bits, "mixed", None),
        (parse_bits, "2", 2),
        (parse_bits, "8", 8),
        (parse_bits, "32", 32),
        (parse_size, "512", 512),
        (parse_size, "200kB", 200_000),
        (parse_size, "1.5 MB", 1_500_000),
        (parse_size, "2KiB", 2048),
        (parse_share, "0.9", 0.9),
        (parse_model, "gru", "gru"),
        (parse_model, "nets:build", "nets:build"),
    ],
)
def test_values(parse: Callable[[str], Any], text: str, value: Any) -> None:
    assert parse(text) == value


@pytest.mark.parametrize(
    ("parse", "text", "message"),
    [
        (parse_bits, "1", r"expected 2 to 8, mixed \(learned per layer\), or 32 \(float twin\), found '1'$"),
        (parse_bits, "mxied", "found 'mxied'; did you mean mixed"),
        (parse_bits, "-4", "found '-4'"),
        (parse_size, "0", "expected bytes with a unit such as 200kB or 1.5MB, found '0'"),
        (parse_size, "1.2.3kB", "found '1.2.3kB'"),
        (parse_size, "3 potatoes", "found '3 potatoes'"),
        (parse_share, "1", "expected a share above 0 and below 1, such as 0.9, found '1'"),
        (parse_share, "nan", "found 'nan'"),
        (parse_model, "resnt20", r"or package\.module:factory, found 'resnt20'; did you mean resnet20\?$"),
    ],
)
def test_words_that_are_no_value(parse: Callable[[str], Any], text: str, message: str) -> None:
    with pytest.raises(ArgumentTypeError, match=message):
        parse(text)
