"""Who is charged with what, and what becomes of a test above the limit: a suite of its own, with a small limit."""

import pytest

from tests.plugins import cpu_limit
from tests.plugins.cpu_limit import COLD_MODULES, COLD_SECONDS, FACTOR_VARIABLE, LIMIT_SECONDS, Meter

pytestmark = pytest.mark.quick

LIMIT = 0.06
SUITE = """
import subprocess, sys, time
import pytest

def burn(seconds=0.15):
    start = time.process_time()
    while time.process_time() - start < seconds:
        pass

@pytest.fixture
def own(): burn()

@pytest.fixture(scope="module")
def shared(): burn()

@pytest.fixture(scope="session")
def late(): burn()

def test_long(): burn()
def test_short(): burn(0.01)
def test_waits(): time.sleep(0.3)
def test_child(): subprocess.run([sys.executable, "-c", "sum(range(4_000_000))"])
def test_own_fixture(own): pass
def test_shared_fixture(shared): pass
def test_late_fixture(request): request.getfixturevalue("late")
def test_broken(): burn(); assert 1 == 2
@pytest.mark.slow("it burns")
def test_slow(): burn()
@pytest.mark.full
def test_full(): burn()
"""


def test_what_is_charged(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(FACTOR_VARIABLE, "1")
    pytester.makeini(f"[pytest]\ncpu_limit = {LIMIT}")
    pytester.makeconftest('pytest_plugins = ["tests.plugins.cpu_limit", "tests.plugins.tiers"]')
    pytester.makepyfile(test_suite=SUITE)
    result = pytester.runpytest_inprocess("-v", "-rN", "--tier", "full", "--cpu-durations", "1")
    found = {line.split("::")[1].split()[0]: line.split()[1] for line in result.outlines if " [" in line}
    failed = {"test_long", "test_child", "test_own_fixture", "test_broken"}
    assert {name for name, outcome in found.items() if outcome == "FAILED"} == failed
    assert len(found) == 10
    text = result.stdout.str()
    assert "test_suite.py::test_long took 0." in text
    assert "above the 0.1 of an unmarked test; make it faster, or mark it @pytest.mark.full" in text
    # A failure is reported as itself.
    assert "assert 1 == 2" in text
    assert "test_broken took" not in text
    assert "CPU-seconds in 10 tests" in text


@pytest.mark.parametrize(
    ("charged", "modules", "speed", "complains"),
    [
        (LIMIT_SECONDS - 0.1, 0, 1.0, False),
        (LIMIT_SECONDS + 0.1, 0, 1.0, True),
        (LIMIT_SECONDS + 0.1, 0, 0.2, True),  # a faster machine is allowed no less
        (LIMIT_SECONDS * 1.4, 0, 1.5, False),
        (LIMIT_SECONDS * 1.6, 0, 1.5, True),
        (LIMIT_SECONDS + COLD_SECONDS - 0.1, COLD_MODULES, 1.0, False),
        (LIMIT_SECONDS + COLD_SECONDS + 0.1, COLD_MODULES, 1.0, True),
        (LIMIT_SECONDS + 0.1, COLD_MODULES - 1, 1.0, True),
    ],
)
def test_the_limit_follows_the_machine_and_the_libraries(
    monkeypatch: pytest.MonkeyPatch, charged: float, modules: int, speed: float, complains: bool
) -> None:
    monkeypatch.delenv(FACTOR_VARIABLE, raising=False)
    monkeypatch.setattr(cpu_limit, "_yardstick", lambda: speed * cpu_limit.YARDSTICK_SECONDS)
    meter = Meter()
    meter.charged, meter.modules = charged, modules
    assert bool(meter.judge(LIMIT_SECONDS)) == complains


def test_the_factor_can_be_told(monkeypatch: pytest.MonkeyPatch) -> None:
    meter = Meter()
    meter.charged = 5.0
    for factor, complains in (("1", True), ("2", False), ("0", False)):
        monkeypatch.setenv(FACTOR_VARIABLE, factor)
        assert bool(meter.judge(LIMIT_SECONDS)) == complains
