"""A misspelt word brings the nearest known one, a foreign word none."""

import pytest

from codeq.toolkit.suggest import did_you_mean


@pytest.mark.parametrize(
    ("word", "found"),
    [("--activatons", "; did you mean --activations?"), ("--opest", "; did you mean --opset?"), ("--zebra", "")],
)
def test_the_nearest_word(word: str, found: str) -> None:
    assert did_you_mean(word, ["--activations", "--opset"]) == found
