"""First sentences of docstrings say something: they exist, end, and are no bare phrase such as "Of each sign."."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

pytestmark = pytest.mark.quick

ROOT = Path(__file__).parents[1]
SOURCES = sorted(path for top in ("models", "codeq", "export", "runtime_tests") for path in (ROOT / top).rglob("*.py"))
PHRASES = frozenset({"Of", "What", "Whether", "How", "Where", "Which", "By", "For", "Likewise", "No", "None"})
"""Words that a sentence with subject and verb does not begin with, among those that were found once."""


def wrong_sentences(source: str) -> Iterator[str]:
    """What is wrong with the module's docstring and those of its public classes and functions."""

    def visit(node: ast.Module | ast.ClassDef | ast.FunctionDef, name: str, needed: bool) -> Iterator[str]:
        text = ast.get_docstring(node)
        if text is None:
            if needed:
                yield f"{name} has no docstring"
        else:
            first = text.split("\n\n")[0].rstrip()
            if first.split()[0] in PHRASES or first[0] == "(":
                yield f"{name} begins with a phrase: {first.splitlines()[0]}"
            if first[-1] not in ".:?" or len(first.split()) < 2:
                yield f"{name} does not end: {first.splitlines()[-1]}"
        for child in node.body if not isinstance(node, ast.FunctionDef) else ():
            if isinstance(child, ast.ClassDef | ast.FunctionDef) and not child.name.startswith("_"):
                yield from visit(child, child.name, needed=False)

    yield from visit(ast.parse(source), "the module", needed=True)


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_first_sentences(path: Path) -> None:
    if path.read_text():
        assert not list(wrong_sentences(path.read_text()))


@pytest.mark.parametrize(
    ("source", "complaint"),
    [
        ("x = 1", "has no docstring"),
        ('"""Of each sign."""', "begins with a phrase"),
        ('"""(I) and (P)."""', "begins with a phrase"),
        ('"""This module reads"""', "does not end"),
        ('"""This module reads files."""\nclass A:\n    """Whether it is."""', "A begins with a phrase"),
        ('"""This module reads."""\nclass A:\n    def f(self):\n        """What it is."""', "f begins with a phrase"),
        ('"""This module reads files."""\ndef f():\n    """Read one."""', ""),
    ],
)
def test_what_is_wrong(source: str, complaint: str) -> None:
    found = list(wrong_sentences(source))
    assert bool(found) == bool(complaint)
    assert complaint in " ".join(found)
