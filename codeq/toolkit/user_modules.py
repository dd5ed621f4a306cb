"""Import modules of the user's as a program in the user's folder would, also where they have names of ours.

A project that keeps its networks in a `models/` folder, and names one by `--model models.net:build`, means its own
folder, not our package of that name. While its modules are imported, and while they run, theirs take our place.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

from codeq.toolkit.interrupt import PACKAGES
from codeq.toolkit.startup import ROOT

_theirs: dict[Path, dict[str, ModuleType]] = {}
"""Modules of the user's with names of ours, by folder: imported once, and here while ours are in `sys.modules`."""


@contextmanager
def user_modules() -> Iterator[None]:
    """Let the working folder come first on the path, and its modules before our packages; but `codeq` stays ours."""
    folder = Path.cwd()
    names = [name for name in PACKAGES if name != "codeq" and folder.resolve() != ROOT and _holds(folder, name)]
    ours = _take_modules(names)
    sys.modules.update(_theirs.get(folder, {}))
    for name in names:
        if name not in sys.modules and _is_bare(folder / name):
            # Without __init__.py, which Python looks for on the whole path first, where it would find ours.
            sys.modules[name] = ModuleType(name)
            sys.modules[name].__path__ = [str(folder / name)]
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        sys.path.remove(str(folder))
        _theirs[folder] = _take_modules(names)
        sys.modules.update(ours)


def _holds(folder: Path, name: str) -> bool:
    return (folder / f"{name}.py").is_file() or (folder / name / "__init__.py").is_file() or _is_bare(folder / name)


def _is_bare(folder: Path) -> bool:
    """Say whether a folder is a package without an `__init__.py`."""
    is_module = folder.with_suffix(".py").is_file()
    return not is_module and not (folder / "__init__.py").is_file() and any(folder.glob("*.py"))


def _take_modules(names: list[str]) -> dict[str, ModuleType]:
    """Take packages and all that is in them out of what is imported."""
    taken = [key for key in sys.modules if key.partition(".")[0] in names]
    return {key: sys.modules.pop(key) for key in taken}
