"""Outputs appear whole or not at all: written to a temporary name beside the target, then renamed.

What a killed process leaves, a hidden folder `.NAME.*.tmp`, goes with the next run that writes that name.
"""

import glob
import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from codeq.errors import CodeqError, OutputError
from codeq.toolkit.locks import is_at, try_lock


def check_ordinary(path: Path, expected: str, error: type[CodeqError]) -> None:
    """Raise an error where a folder, a pipe or a device is in the place of a file to read: a pipe would be waited for.

    Args:
        path: What is to be read; that nothing is there, its reader says.
        expected: What should be there, for the message, e.g. "a file written by codeq.save".
        error: What to raise.
    """
    if path.exists() and not path.is_file():
        raise error(f"{path} is {'a folder' if path.is_dir() else 'no ordinary file'}, expected {expected}")


def check_writable(path: str | os.PathLike[str], *, force: bool) -> Path:
    """Say before the work starts whether its result may be written.

    Raises:
        OutputError: The target exists and `force` is not given, is a folder or a link to nothing, or its folder is
            missing or read-only.
    """
    target = Path(path)
    if target.is_symlink() and not target.exists():
        raise OutputError(f"{target} is a link to {os.readlink(target)}, which is not there; remove it or name another")
    if target.is_dir():
        raise OutputError(f"{target} is a folder, expected a file name")
    if target.exists() and not target.is_file():
        raise OutputError(f"{target} is no ordinary file; name another one")
    if target.exists() and not force:
        raise OutputError(f"{target} exists; use --force to overwrite it")
    folder = target.parent
    if not folder.is_dir():
        raise OutputError(f"cannot write {target}: there is no folder {folder}")
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise OutputError(f"cannot write {target}: {error.strerror or error}") from error
    return target


@contextmanager
def replace_atomically(target: Path) -> Iterator[Path]:
    """Yield a temporary path to write; on success it becomes the target, on failure it is removed.

    Raises:
        OutputError: The folder cannot be written.
    """
    with staging_folder(target) as folder:
        yield folder / target.name


@contextmanager
def staging_folder(target: Path, *, replace: bool = True) -> Iterator[Path]:
    """Yield a temporary folder beside `target`; on success the files in it are renamed to its side, `target` last.

    At any moment `target` is the old file, absent, or the new one: where there are companions (external data), the old
    `target` goes before they arrive, so that it never reads a companion that is not its own. A file that is replaced
    gives its mode to the new one.

    Args:
        target: What to write.
        replace: Take the place of files that are there. Without it the first of two processes that write one name wins.

    Raises:
        OutputError: The folder cannot be written, or without `replace` a file is there.
    """
    sweep(target)
    # Named before it is made: a signal between the two must not leave it behind.
    folder = _temporary(target)
    descriptor = None
    try:
        folder.mkdir()
        while os.name == "posix" and (descriptor := _hold(folder)) is None:  # another run has swept it
            folder = _temporary(target)
            folder.mkdir()
        yield folder
        companions = [file for file in folder.iterdir() if file.name != target.name]
        for file in (*companions, folder / target.name):
            with file.open("rb") as written:
                os.fsync(written.fileno())
        if replace:
            _replace(target, companions, folder / target.name)
        else:
            _add(target, companions, folder / target.name)
    except OSError as error:
        raise OutputError(f"cannot write {target}: {error.strerror or error}") from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        if descriptor is not None:
            os.close(descriptor)


def sweep(target: Path) -> None:
    """Remove what killed processes left beside `target`: temporary folders that no process holds any more."""
    if os.name != "posix":
        return
    for folder in target.parent.glob(f".{glob.escape(target.name)}.*.tmp"):
        try:
            descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        except OSError:  # no folder, or gone by now
            continue
        try:
            if try_lock(descriptor):
                shutil.rmtree(folder, ignore_errors=True)
        finally:
            os.close(descriptor)


def _temporary(target: Path) -> Path:
    return target.parent / f".{target.name}.{secrets.token_hex(4)}.tmp"


def _hold(folder: Path) -> int | None:
    """Lock a new folder for as long as this process lives, so that `sweep` leaves it; None if it was swept before."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except FileNotFoundError:
        return None
    if try_lock(descriptor) is not False and is_at(descriptor, folder):
        return descriptor
    os.close(descriptor)
    return None


def _replace(target: Path, companions: list[Path], staged: Path) -> None:
    mode = _mode_of(target)
    if companions:
        target.unlink(missing_ok=True)
    for file in companions:
        _keep_mode(file, _mode_of(target.parent / file.name))
        file.replace(target.parent / file.name)
    _keep_mode(staged, mode)
    staged.replace(target)


def _add(target: Path, companions: list[Path], staged: Path) -> None:
    """Give files their names only where these are free; a rename would replace what came there by now."""
    placed: list[Path] = []
    for file in (*companions, staged):
        place = target.parent / file.name
        try:
            _link(file, place)
        except FileExistsError as error:
            for own in placed:
                own.unlink()
            raise OutputError(f"{place} exists by now; use --force to overwrite it") from error
        placed.append(place)


def _link(file: Path, place: Path) -> None:
    try:
        os.link(file, place)
    except FileExistsError:
        raise
    except OSError:  # a file system without links: whoever makes the name first owns it
        place.open("xb").close()
        file.replace(place)


def _mode_of(path: Path) -> int | None:
    return path.stat().st_mode & 0o7777 if path.is_file() else None


def _keep_mode(file: Path, mode: int | None) -> None:
    if mode is not None:
        file.chmod(mode)
