"""This module does what a command needs before its own imports: it finds files that hide our packages, and ends on
Ctrl-C without a traceback.

`python -m codeq.train` puts the working folder first on the path. A `models/` folder or an `export.py` of the user's
then takes the place of our package of that name, and the next import fails in a traceback that explains nothing.
"""

import os
import signal
import sys
from importlib.util import find_spec
from pathlib import Path
from types import FrameType

from codeq.toolkit.interrupt import PACKAGES

ROOT = Path(__file__).parents[2]
"""That folder."""


def hiding_files() -> dict[str, Path]:
    """Find the files and folders that Python would import in place of our packages, by package. Imports nothing."""
    found = {}
    for package in PACKAGES:
        spec = find_spec(package)
        if spec is None:
            continue
        # A folder without __init__.py, which hides an editable install, has no origin.
        origin = Path(spec.origin or next(iter(spec.submodule_search_locations or ())))
        if origin.resolve() != (ROOT / package / "__init__.py").resolve():
            found[package] = origin.parent if origin.name == "__init__.py" else origin
    return found


def describe_hiding(found: dict[str, Path]) -> str:
    """Say in one line which file hides which package, and what to do."""
    places = []
    for package, place in found.items():
        shown = os.path.relpath(place) if place.is_relative_to(Path.cwd()) else str(place)
        places.append(f"{shown}{os.sep if place.is_dir() else ''} hides the package '{package}' of this program")
    return f"{', and '.join(places)}; run the `codeq` command instead, or rename {'it' if len(places) == 1 else 'them'}"


def child_environment() -> dict[str, str]:
    """Build the environment in which `python -m` of a child process finds our packages, whatever its folder holds."""
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    return os.environ | {"PYTHONPATH": path, "PYTHONSAFEPATH": "1"}


def start_command() -> None:
    """Prepare a process that runs one of our commands with `python -m`; do nothing in any other process.

    Exits with status 2 and one line where a file of the user's hides one of our packages. From here to `cli.run`,
    Ctrl-C ends the process at once.
    """
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    if spec is None or spec.name.partition(".")[0] not in PACKAGES:
        return
    end_on_interrupt()
    found = hiding_files()
    if found:
        print(f"error: {describe_hiding(found)}", file=sys.stderr)
        sys.exit(2)


def end_on_interrupt() -> None:
    """Let Ctrl-C end the process at once, with one line and status 130, until `raise_on_interrupt`.

    For the time in which modules are imported: an exception would pass through code of libraries that catches it, or
    that leaves half a module behind. Where Ctrl-C is ignored, or handled in another way, that stays.
    """
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _end)


def raise_on_interrupt() -> None:
    """Let Ctrl-C raise KeyboardInterrupt again, so that what has begun is cleaned up."""
    if signal.getsignal(signal.SIGINT) is _end:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _end(number: int, frame: FrameType | None) -> None:
    os.write(2, b"interrupted\n")
    os._exit(130)
