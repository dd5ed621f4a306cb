"""Every runtime that opens files has a runner, a package to look for, and a name in texts."""

from runtime_tests import runners
from runtime_tests.names import NAMES, RUNTIMES
from runtime_tests.runners import open as opening


def test_every_runtime_has_a_runner_and_a_name() -> None:
    assert tuple(runners.RUNTIMES) == RUNTIMES
    assert set(opening.PACKAGES) == set(RUNTIMES) <= set(NAMES)
