"""Codes are counted and judged, tensor by tensor."""

import numpy as np
import pytest
import torch

from export.parity.codes import Count, Substitute, judge_codes

pytestmark = pytest.mark.quick

OURS = torch.tensor([[3, 4, 5]], dtype=torch.uint8)
STEPS = torch.tensor([[3.1, 4.495, 5.2]])
"""What was rounded, in steps: the second value is 0.005 from the middle between 4 and 5."""


def substitute(*codes: int) -> tuple[torch.Tensor, Count]:
    counts: dict[str, Count] = {}
    found = {"conv1": np.array([codes], np.uint8)}
    answer = Substitute(found, counts)("conv1", OURS, lambda: STEPS)
    return answer, counts["conv1"]


def test_the_runtimes_codes_are_handed_on() -> None:
    answer, count = substitute(3, 5, 5)
    assert answer.tolist() == [[3, 5, 5]]
    assert (count.elements, count.differing, count.max_step) == (3, 1, 1)
    assert count.tie_distance == pytest.approx(0.005, abs=1e-6)


def test_equal_codes_are_not_looked_at_further() -> None:
    assert substitute(3, 4, 5)[1] == Count(3)


def test_the_largest_step_is_kept() -> None:
    """Codes are uint8: a difference must not wrap."""
    assert substitute(255, 4, 0)[1].max_step == 252


def test_codes_of_another_shape_all_differ() -> None:
    answer, count = substitute(3, 4)
    assert answer is OURS
    assert (count.elements, count.differing) == (3, 3)
    assert not judge_codes("conv1", "basic", "float", count, exact=False).ok


def test_counts_add_up() -> None:
    count = Count(10, 2, 1, 0.002)
    count.add(Count(5, 1, 3, 0.001))
    assert count == Count(15, 3, 3, 0.002)


@pytest.mark.parametrize(
    ("count", "exact", "ok"),
    [
        (Count(10), True, True),
        (Count(10, 1, 1, 0.0), True, False),
        (Count(10, 1, 1, 0.01), False, True),
        (Count(10, 1, 1, 0.011), False, False),
        (Count(10, 1, 2, 0.0), False, False),
    ],
)
def test_only_a_kernel_that_is_not_exact_may_break_ties(count: Count, exact: bool, ok: bool) -> None:
    check = judge_codes("conv1", "basic", "QLinearConv", count, exact=exact)
    assert (check.ok, check.elements, check.differing) == (ok, count.elements, count.differing)
