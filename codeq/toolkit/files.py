"""Outputs appear whole or not at all: written to a temporary name beside the target, then renamed."""

import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from codeq.errors import OutputError


def check_writable(path: str | os.PathLike[str], *, force: bool) -> Path:
    """Say before the work starts whether its result may be written.

    Raises:
        OutputError: The target exists and `force` is not given, is a folder, or its folder is missing or read-only.
    """
    target = Path(path)
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
def staging_folder(target: Path) -> Iterator[Path]:
    """Yield a temporary folder beside `target`; on success the files in it are renamed to its side, `target` last.

    At any moment `target` is the old file, absent, or the new one: where there are companions (external data), the old
    `target` goes before they arrive, so that it never reads a companion that is not its own.

    Raises:
        OutputError: The folder cannot be written.
    """
    # Named before it is made: a signal between the two must not leave it behind.
    folder = target.parent / f".{target.name}.{secrets.token_hex(4)}.tmp"
    try:
        folder.mkdir()
        yield folder
        companions = [file for file in folder.iterdir() if file.name != target.name]
        if companions:
            target.unlink(missing_ok=True)
        for file in (*companions, folder / target.name):
            with file.open("rb") as written:
                os.fsync(written.fileno())
            file.replace(target.parent / file.name)
    except OSError as error:
        raise OutputError(f"cannot write {target}: {error.strerror or error}") from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)
