"""Pages are true where a machine can tell: links lead somewhere, and files, modules and names in them exist."""

import re
from pathlib import Path

import pytest

import codeq
import export
from codeq import compress

pytestmark = pytest.mark.quick

ROOT = Path(__file__).parents[1]
PAGES = [Path(name) for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md", "examples/README.md")]
PAGES += sorted(path.relative_to(ROOT) for path in ROOT.glob("docs/*.md"))
HISTORY = [Path("CHANGELOG.md"), *sorted(path.relative_to(ROOT) for path in ROOT.glob("docs/results/*/*.md"))]
"""Pages that say what was: links still lead somewhere, but modules have moved since."""
PACKAGES = "codeq|export|models|runtime_tests"
LINK = re.compile(r"\]\((?!https?:)([^)#]+)")
FILE = re.compile(rf"\b((?:{PACKAGES}|tests|docs|examples)/[\w./-]*\.(?:py|md|toml|yml|sh|txt))\b")
NAME = re.compile(rf"(?:`|-m )((?:{PACKAGES})(?:\.\w+)+)")
PLACEHOLDER = "NAME"


@pytest.mark.parametrize("page", [*PAGES, *HISTORY], ids=str)
def test_links_lead_somewhere(page: Path) -> None:
    wrong = [target for target in LINK.findall((ROOT / page).read_text()) if not (ROOT / page.parent / target).exists()]
    assert not wrong


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_files_that_are_mentioned_exist(page: Path) -> None:
    mentioned = [file for file in FILE.findall((ROOT / page).read_text()) if PLACEHOLDER not in file]
    assert not [file for file in mentioned if not (ROOT / file).exists()]


def test_files_that_code_mentions_exist() -> None:
    sources = [path for package in PACKAGES.split("|") for path in (ROOT / package).rglob("*.py")]
    mentioned = {(file, path) for path in sources for file in FILE.findall(path.read_text())}
    assert not [f"{path}: {file}" for file, path in mentioned if not (ROOT / file).exists()]


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_names_that_are_mentioned_exist(page: Path) -> None:
    mentioned = [name for name in NAME.findall((ROOT / page).read_text()) if not name.endswith(".py")]
    assert not [name for name in mentioned if PLACEHOLDER not in name and not _exists(name)]


def test_names_that_do_not_exist_are_seen() -> None:
    assert _exists("codeq.quantizer.attach.freeze")
    assert _exists("codeq.set_compile")
    assert not _exists("codeq.quantizer.attach.froze")
    assert not _exists("export.verify")


def test_the_site_has_every_page() -> None:
    named = re.findall(r"([\w.]+\.md)", (ROOT / "mkdocs.yml").read_text())
    assert sorted(named) == sorted(path.name for path in ROOT.glob("docs/*.md"))


def test_the_site_has_every_public_name() -> None:
    shown = re.findall(r"^::: ([\w.]+)$", (ROOT / "docs/api.md").read_text(), re.MULTILINE)
    assert all(map(_exists, shown))
    public = {name for package in (codeq, compress, export) for name in package.__all__} - {"__version__"}
    assert sorted(name.rpartition(".")[2] for name in shown) == sorted(public)


def _exists(name: str) -> bool:
    """Tell whether a dotted name is a module of ours, or is defined or exported by one; nothing is imported."""
    module, *rest = ROOT, *name.split(".")
    while rest and ((module / rest[0]).is_dir() or (module / f"{rest[0]}.py").exists()):
        module /= rest.pop(0)
    if not rest:
        return True
    source = module / "__init__.py" if module.is_dir() else module.with_suffix(".py")
    defined = rf"(^(def|class) {rest[0]}\b|^{rest[0]}\b[^\n]*=|\"{rest[0]}\")"
    return re.search(defined, source.read_text(), re.MULTILINE) is not None
