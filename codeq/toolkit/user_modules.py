"""Import modules of the user's as a program in the user's folder would, also where they have names of ours.

A project that keeps its networks in a `models/` folder, and names one by `--model models.net:build`, means its own
folder, not our package of that name. While its modules are imported, and while they run, theirs take our place.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

from codeq.errors import CodeqError, first_line
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


def import_named(where: str, spec: str) -> Any:
    """Import what a user names as `package.module:name`. Only a command line may name code like this, never a file.

    Args:
        where: What messages begin with, e.g. "--model nets:build".
        spec: The name.

    Raises:
        CodeqError: It cannot be imported.
    """
    module_name, _, name = spec.partition(":")
    try:
        with user_modules():
            return getattr(import_module(module_name), name)
    except SystemExit as error:
        raise CodeqError(
            f"{where}: cannot be imported (it exits with {error.code}); "
            'put what it runs as a program under `if __name__ == "__main__":`'
        ) from error
    except ModuleNotFoundError as error:
        raise CodeqError(
            f"{where}: cannot be imported ({first_line(error)}); modules are looked for in this folder, in PYTHONPATH "
            "and among installed packages"
        ) from error
    except Exception as error:  # the user's module may raise anything; its first line says what to mend
        raise CodeqError(f"{where}: cannot be imported ({first_line(error)})") from error


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
