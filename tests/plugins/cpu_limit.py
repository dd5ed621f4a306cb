"""An unmarked test that takes more than 3 CPU-seconds fails, so that the suite stays as fast as it is.

CPU time, of the test's process and of those that it waits for, user and system: a busy machine stretches the clock on
the wall, which is never looked at. What a test is charged with, and what it is not:

- its own call, and the fixtures made for it alone. Fixtures of a wider scope are shared, and charged to nobody.
- Whoever comes first in a process pays for the libraries (torch._dynamo, onnxruntime, transformers ...). A test that
  loads one, seen by the modules that it adds, may take COLD_SECONDS more.
- A slower processor, or a neighbour on the same core, makes the same work take more CPU time. So a test above the limit
  is judged by a fixed piece of Python that is timed right behind it: where this takes 1.5 times what it took on the
  machine that the limit was set on, 4.5 seconds are allowed. $CODEQ_TEST_CPU_FACTOR says the factor instead, and 0
  switches the limit off.

The way out for a test that needs its time: `@pytest.mark.slow("why")`, or `@pytest.mark.full` (see tiers.py).
`pytest --cpu-durations 20` lists the twenty most expensive tests.
"""

import os
import statistics
import sys
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

LIMIT_SECONDS = 3.0
COLD_SECONDS = 5.0
COLD_MODULES = 20
"""So many new modules are a library."""
YARDSTICK_SECONDS = 0.021
"""What `_yardstick` takes on the machine that the limit was set on (AMD EPYC, CPython 3.11, nothing else running)."""
FACTOR_VARIABLE = "CODEQ_TEST_CPU_FACTOR"


def cpu_seconds() -> float:
    """CPU time of this process and of its children that have ended."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


class Meter:
    """The bill of the test that is running."""

    def __init__(self) -> None:
        self.charged = 0.0
        self.modules = 0
        self._shared = 0.0
        self._sharing = False

    @contextmanager
    def charge(self) -> Iterator[None]:
        """Charge the test with what runs inside, but for shared fixtures."""
        start, shared, modules = cpu_seconds(), self._shared, len(sys.modules)
        try:
            yield
        finally:
            self.charged += cpu_seconds() - start - (self._shared - shared)
            self.modules += len(sys.modules) - modules

    @contextmanager
    def share(self) -> Iterator[None]:
        """Charge nobody with what runs inside; the outermost of nested ones counts."""
        if self._sharing:
            yield
            return
        self._sharing, start, modules = True, cpu_seconds(), len(sys.modules)
        try:
            yield
        finally:
            self._sharing = False
            self._shared += cpu_seconds() - start
            self.modules -= len(sys.modules) - modules

    def judge(self, limit: float) -> str:
        """What there is to say of the bill; empty where it is within the limit."""
        cold = COLD_SECONDS if self.modules >= COLD_MODULES else 0.0
        if self.charged <= limit + cold:
            return ""
        allowed = (limit + cold) * _factor()
        if not allowed or self.charged <= allowed:
            return ""
        detail = f" ({COLD_SECONDS:g} of them for the libraries it loads)" if cold else ""
        return (
            f"took {self.charged:.1f} CPU-seconds, above the {allowed:.1f}{detail} of an unmarked test; make it "
            'faster, or mark it @pytest.mark.full (for `make full` alone) or @pytest.mark.slow("why") (it stays in '
            "`make test`)"
        )


METER = pytest.StashKey[Meter]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addini(
        "cpu_limit", f"CPU-seconds that an unmarked test may take (default: {LIMIT_SECONDS:g})", default=LIMIT_SECONDS
    )
    parser.addoption(
        "--cpu-durations", type=int, metavar="N", help="list the N tests that took most CPU time (0: all of them)"
    )


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup(item: pytest.Item) -> Generator[None, Any, Any]:
    meter = item.stash[METER] = Meter()
    with meter.charge():
        return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_fixture_setup(fixturedef: pytest.FixtureDef[Any], request: pytest.FixtureRequest) -> Generator[None]:
    meter = request._pyfuncitem.stash.get(METER, None)
    if meter is None or fixturedef.scope == "function":
        return (yield)
    with meter.share():
        return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, Any, Any]:
    with item.stash[METER].charge():
        return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Generator[None, Any, Any]:
    report: pytest.TestReport = yield
    if call.when == "call":
        meter = item.stash[METER]
        report.user_properties.append(("cpu_seconds", meter.charged))
        if (
            report.passed
            and not _is_marked(item)
            and (complaint := meter.judge(float(item.config.getini("cpu_limit"))))
        ):
            report.outcome, report.longrepr = "failed", f"{item.nodeid} {complaint}"
    return report


def _is_marked(item: pytest.Item) -> bool:
    return item.get_closest_marker("slow") is not None or item.get_closest_marker("full") is not None


def _factor() -> float:
    """How much more CPU time than on the limit's machine is allowed here: as told, or by the yardstick, never less."""
    if FACTOR_VARIABLE in os.environ:
        return float(os.environ[FACTOR_VARIABLE])
    return max(1.0, statistics.median(_yardstick() for _ in range(5)) / YARDSTICK_SECONDS)


def _yardstick() -> float:
    """CPU-seconds of a fixed piece of Python: calls, strings and dictionaries, as tests spend their time."""
    start = time.process_time()
    names: dict[str, int] = {}
    for number in range(150_000):
        name = str(number % 997)
        names[name] = names.get(name, 0) + number
    return time.process_time() - start


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """Say what the tests took together, and with --cpu-durations each of them."""
    bills = {
        report.nodeid: dict(report.user_properties)["cpu_seconds"]
        for reports in terminalreporter.stats.values()
        for report in reports
        if getattr(report, "when", "") == "call" and "cpu_seconds" in dict(report.user_properties)
    }
    if not bills:
        return
    terminalreporter.write_line(
        f"{sum(bills.values()):.0f} CPU-seconds in {len(bills)} tests, shared fixtures left out"
    )
    count = config.getoption("cpu_durations")
    if count is not None:
        dearest = sorted(bills.items(), key=lambda item: -item[1])
        for name, seconds in dearest[: count or None]:
            terminalreporter.write_line(f"{seconds:8.2f}  {name}")
