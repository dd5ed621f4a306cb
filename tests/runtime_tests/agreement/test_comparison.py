"""What is taken for an explanation of other codes and other classes."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from runtime_tests.agreement.comparison import FLOAT_SUMS, Comparison, _Found, _judge, _unlike
from runtime_tests.agreement.file_in_runtime import EXACT_RULE
from runtime_tests.agreement.runtimes_report import LayerPair, Pair, RuntimesReport
from runtime_tests.runners.runtime import Computed


def stub(*, unseen: bool, kernel: str = "", fused: frozenset[str] = frozenset()) -> SimpleNamespace:
    """What is asked of a file in a runtime, all of whose layers one kernel computes."""
    return SimpleNamespace(
        runtime=SimpleNamespace(unseen=unseen),
        computed=Computed(fused=fused),
        is_exact=lambda name: kernel != "float",
    )


def explain(
    parted: list[int], by_rule: list[int], off_rule: list[int], kernel: str, error: float, ties: Any = frozenset()
) -> tuple[str, bool]:
    """What is said about one input, of which these layers have so many codes that differ."""

    file: Any = stub(unseen=False, kernel=kernel)
    comparison = Comparison([])
    comparison.base, comparison.largest = file, 1.0
    names = [f"layer{number}" for number in range(len(parted))]
    pair = Pair("a", "b", {name: LayerPair(name, ("QLinearAdd", kernel)) for name in names})
    counts = [
        {name: np.array([count]) for name, count in zip(names, each, strict=True)}
        for each in (parted, by_rule, off_rule)
    ]
    first = _Found(np.array([[0.0, 1.0]]), np.array([[0.0, 1.0]]), off_rule=dict.fromkeys(names, np.array([0])))
    second = _Found(first.alone + error, first.together + error, off_rule=counts[2], ties=ties)
    return comparison._explain(pair, file, first, second, 0, counts[0], counts[1])


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (([0, 3, 9], [0, 1, 0], [0, 0, 0], "ADD", 0.5), ("layer1: QLinearAdd and ADD", True)),
        # A rule that differs further on explains nothing: codes had parted before.
        (
            ([0, 3, 9], [0, 0, 1], [0, 0, 0], "ADD", 0.5),
            ("layer1: QLinearAdd and ADD part there for equal operands", False),
        ),
        # Nor does a runtime that does not follow its rule.
        (
            ([0, 3, 9], [0, 0, 0], [0, 3, 0], "ADD", 0.5),
            ("layer1: QLinearAdd and ADD part there for equal operands", False),
        ),
        (([3], [0], [3], "float", 0.5, {"layer0"}), ("layer0: QLinearAdd and float, a tie in floats", True)),
        (([3], [0], [3], "float", 0.5), ("layer0: QLinearAdd and float part there for equal operands", False)),
        (([0, 0], [0, 0], [0, 0], "ADD", 1e-6), (FLOAT_SUMS, True)),
        (([0, 0], [0, 0], [0, 0], "ADD", 1e-3), ("no code differs, and outputs do", False)),
    ],
    ids=["its rule", "a later rule", "off its rule", "a float kernel", "no tie", "float sums", "nothing"],
)
def test_what_explains_another_class(arguments: Any, expected: tuple[str, bool]) -> None:
    assert explain(*arguments) == expected


def test_kernels_of_one_rule_may_not_differ() -> None:
    pair = Pair("a", "b", {"conv": LayerPair("conv", ("QLinearConv", "CONV_2D"), 100, 2, 1)})
    assert {"QLinearConv", "CONV_2D"} <= EXACT_RULE
    _judge(pair)
    assert pair.failure.startswith("conv: 1 of 100 codes differ for equal operands")
    other = Pair("a", "b", {"add": LayerPair("add", ("QLinearAdd", "ADD"), 100, 2, 1)})
    _judge(other)
    assert other.failure == ""
    report = RuntimesReport(1, 20, None, 1e-5, (), (pair,))
    assert "first failure: conv: 1 of 100 codes differ" in str(report)


def test_openvino_is_excused_by_its_rule_and_by_ties_only() -> None:
    file: Any = stub(unseen=True, fused=frozenset({"conv"}))

    def said(rule: list[float], off_rule: int, ties: set[str]) -> tuple[str, bool]:
        comparison = Comparison([])
        pair = Pair("a", "b", {"conv": LayerPair("conv", ("QLinearConv", "Convolution with Add"))})
        counts = {"conv": np.array([off_rule])}
        first = _Found(np.array([[1.0, 0.0]]), np.array([[1.0, 0.0]]))
        second = _Found(np.array([[0.0, 1.0]]), np.array([[0.0, 1.0]]), np.array([rule]), {}, counts, ties)
        return comparison._explain(pair, file, first, second, 0, counts, counts)

    assert said([0.0, 1.0], 0, set()) == ("conv: Convolution with Add, not rounded in between", True)
    assert said([1.0, 0.0], 1, {"conv"}) == ("conv: Convolution with Add, a tie", True)
    assert said([1.0, 0.0], 1, set()) == ("conv: Convolution with Add, off the rule by more", False)
    assert said([1.0, 0.0], 0, set()) == ("no code differs from the rule, and the class does", False)


def test_classes_are_of_outputs_that_have_some() -> None:
    first, second = np.array([[0.0, 1.0], [1.0, 0.0]]), np.array([[0.0, 1.0], [0.0, 1.0]])
    assert _unlike(first, second).tolist() == [False, True]
    tokens = np.stack([first, second], 1)  # (inputs, tokens, features)
    assert _unlike(tokens, -tokens).tolist() == [False, False]
