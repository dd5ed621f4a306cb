"""Every message that recommends installing names an extra that exists, from a clone, by one helper."""

import re
import tomllib
from pathlib import Path

from codeq.toolkit.extras import install_hint

ROOT = Path(__file__).parents[3]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = set(PROJECT["optional-dependencies"])
SOURCES = [
    *ROOT.glob("*.py"),
    *(path for name in ("codeq", "export", "models", "runtime_tests", "tests") for path in (ROOT / name).rglob("*.py")),
]
PAGES = [ROOT / "README.md", *(ROOT / "docs").glob("*.md"), *(ROOT / "examples").glob("*.md")]


def test_the_hint_works_in_a_clone() -> None:
    assert install_hint("tflite") == "pip install '.[tflite]' in a clone of this project"


def test_every_extra_that_is_recommended_exists() -> None:
    recommended = re.compile(r"""(?:install_hint\(["']|pip install (?:-e )?'\.\[)([\w-]+)""")
    found = {extra for path in (*SOURCES, *PAGES) for extra in recommended.findall(path.read_text())}
    assert len(found) > 4
    assert found <= EXTRAS


def test_nothing_recommends_the_other_distribution_of_our_packages_name() -> None:
    # `codeq` on the public registry is another author's package.
    foreign = re.compile(r"pip install[^\n]*\bcodeq(\\?\[|\b(?!-))")
    assert [
        str(path) for path in (*SOURCES, *PAGES) if path != Path(__file__) and foreign.search(path.read_text())
    ] == []


def test_the_distribution_has_a_name_of_its_own_and_its_extras_refer_to_it() -> None:
    assert PROJECT["name"] == "codeq-to-device"
    own = [need for needs in PROJECT["optional-dependencies"].values() for need in needs if need.startswith("codeq")]
    assert own
    for need in own:
        name, extras = re.fullmatch(r"([\w-]+)\[([\w,-]+)\]", need).groups()  # type: ignore[union-attr]
        assert name == PROJECT["name"]
        assert set(extras.split(",")) <= EXTRAS


def test_the_command_is_installed() -> None:
    assert PROJECT["scripts"] == {"codeq": "codeq_cli:run"}
