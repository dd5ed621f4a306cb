"""Layers by name, glob or regular expression."""

import pytest

from codeq.errors import AttachError
from codeq.toolkit.patterns import find_patterns, matches


@pytest.mark.parametrize(
    ("pattern", "names", "found"),
    [
        ("fc", ["fc"], True),
        ("fc", ["fc2"], False),
        ("layer1.*", ["stem", "layer1.0.conv1"], True),
        ("LAYER1.*", ["layer1.0"], False),
        ("re:fc|head", ["head"], True),
        ("re:fc", ["fc2"], False),
        ("re:.*", [], False),
    ],
)
def test_a_pattern_names_layers(pattern: str, names: list[str], found: bool) -> None:
    assert matches(pattern, names) is found


def test_a_broken_expression_is_one_line() -> None:
    with pytest.raises(AttachError, match=r"^'re:\(' is not a regular expression: "):
        matches("re:(", ["fc"])


@pytest.mark.parametrize(
    ("chosen", "others", "patterns"),
    [
        (["a.0.dw", "a.1.dw"], ["a.0.pw", "stem"], ["*.dw"]),
        (["stem", "a.0.dw", "a.1.dw"], ["a.0.pw"], ["stem", "*.dw"]),
        (["a.0.dw", "a.1.dw"], ["b.0.dw"], ["a.*.dw"]),
        (["a.0.dw", "a.1.dw"], ["a.2.dw"], ["a.0.dw", "a.1.dw"]),
        (["stem"], ["a.stem"], ["stem"]),
        ([], ["a"], []),
    ],
)
def test_patterns_that_name_these_and_no_others(chosen: list[str], others: list[str], patterns: list[str]) -> None:
    assert find_patterns(chosen, others) == patterns
