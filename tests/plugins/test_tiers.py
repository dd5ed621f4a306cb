"""Which marks run in which tier."""

import pytest

pytestmark = pytest.mark.quick

SUITE = """
import pytest

@pytest.mark.quick
def test_quick(): pass

def test_plain(): pass

@pytest.mark.slow("a reason")
def test_slow(): pass

@pytest.mark.full
def test_full(): pass
"""


@pytest.fixture(autouse=True)
def _plugin(pytester: pytest.Pytester) -> None:
    pytester.makeconftest('pytest_plugins = ["tests.plugins.tiers"]')


def names(result: pytest.RunResult) -> list[str]:
    return [line.split("::")[1].split()[0] for line in result.outlines if "PASSED" in line]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--tier", "quick"], ["test_quick"]),
        ([], ["test_quick", "test_plain", "test_slow"]),
        (["--tier", "full"], ["test_quick", "test_plain", "test_slow", "test_full"]),
    ],
    ids=["quick", "the default", "full"],
)
def test_a_tier_holds_those_before_it(pytester: pytest.Pytester, options: list[str], expected: list[str]) -> None:
    pytester.makepyfile(SUITE)
    result = pytester.runpytest_inprocess("-v", *options)
    assert names(result) == expected
    assert result.parseoutcomes().get("deselected", 0) == 4 - len(expected)


def test_a_test_that_is_named_runs(pytester: pytest.Pytester) -> None:
    path = pytester.makepyfile(SUITE)
    assert names(pytester.runpytest_inprocess("-v", f"{path.name}::test_full")) == ["test_full"]


def test_a_full_parameter_of_a_quick_test_is_full(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        "import pytest\n@pytest.mark.quick\n"
        '@pytest.mark.parametrize("n", [1, pytest.param(2, marks=pytest.mark.full)])\ndef test_a(n): pass'
    )
    assert names(pytester.runpytest_inprocess("-v", "--tier", "quick")) == ["test_a[1]"]


def test_slow_needs_a_reason(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("import pytest\n@pytest.mark.slow\ndef test_a(): pass")
    result = pytester.runpytest_inprocess()
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(['*::test_a: @pytest.mark.slow has no reason; write @pytest.mark.slow("why")'])
