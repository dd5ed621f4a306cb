"""Every command of the project: the modules that run as `python -m`, found by reading the tree."""

import ast
from pathlib import Path

ROOT = Path(__file__).parents[1]

SCRIPTS = ("on_device.py", "bochs_guest.py", "bochs_screen.py")
"""What runs elsewhere, or by itself, without this project."""


def _runs(path: Path) -> bool:
    if path.name in SCRIPTS:
        return False
    tests = [ast.unparse(node.test) for node in ast.parse(path.read_text()).body if isinstance(node, ast.If)]
    return "__name__ == '__main__'" in tests


def _module(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts)


_FILES = [
    ROOT / "codeq_cli.py",
    *(path for top in ("codeq", "export", "runtime_tests") for path in (ROOT / top).rglob("*.py")),
]

COMMANDS = tuple(sorted(_module(path) for path in _FILES if _runs(path)))
"""Modules by their dotted names, those of packages with `.__main__`."""
RUN_AS = tuple(name.removesuffix(".__main__") for name in COMMANDS)
"""What stands behind `python -m`."""
