"""Tests come in three tiers, and one option says which run: `pytest --tier quick`, `test` (the default) or `full`.

    @pytest.mark.quick           runs in all three: milliseconds, and together they touch every part
    (no mark)                    runs in `test` and `full`
    @pytest.mark.slow("why")     as unmarked ones do, and may take more than cpu_limit.py allows
    @pytest.mark.full            runs in `full` alone: a repetition of what a test of `test` shows once, or minutes

A test that is named on the command line (`pytest tests/x.py::test_y`) runs whatever its tier. Tests of properties
(hypothesis) try more examples in `full`, unless they say how many themselves.
"""

import pytest
from hypothesis import settings

TIERS = ("quick", "test", "full")
EXAMPLES = {"quick": 20, "test": 50, "full": 300}
MARKS = (
    "quick: runs in every tier, `make quick` too",
    "slow(reason): may take more CPU time than an unmarked test",
    "full: runs in `make full` alone",
)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--tier",
        choices=TIERS,
        default="test",
        help="quick: under a minute; test: what CI runs on every push; full: everything (default: test)",
    )


def pytest_configure(config: pytest.Config) -> None:
    for mark in MARKS:
        config.addinivalue_line("markers", mark)
    for tier, examples in EXAMPLES.items():
        settings.register_profile(tier, max_examples=examples, deadline=None)
    settings.load_profile(config.getoption("tier"))


def pytest_report_header(config: pytest.Config) -> str:
    return f"tier: {config.getoption('tier')} (of {', '.join(TIERS)}; see --tier)"


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out the tests of other tiers; refuse marks that contradict each other or give no reason."""
    for item in items:
        _check_marks(item)
    if any("::" in argument for argument in config.args):
        return
    chosen = config.getoption("tier")
    left_out = [item for item in items if not runs_in(item, chosen)]
    if left_out:
        items[:] = [item for item in items if runs_in(item, chosen)]
        config.hook.pytest_deselected(items=left_out)


def runs_in(item: pytest.Item, tier: str) -> bool:
    """Whether a test belongs to a tier."""
    if tier == "quick":
        return item.get_closest_marker("quick") is not None and item.get_closest_marker("full") is None
    return tier == "full" or item.get_closest_marker("full") is None


def _check_marks(item: pytest.Item) -> None:
    for mark in item.iter_markers("slow"):
        if not mark.args and "reason" not in mark.kwargs:
            raise pytest.UsageError(f'{item.nodeid}: @pytest.mark.slow has no reason; write @pytest.mark.slow("why")')
