"""Outputs appear whole or not at all: written to a temporary name beside the target, then renamed."""

import os
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
    """Yield a temporary path in the target's folder; on success it becomes the target, on failure it is removed.

    Raises:
        OutputError: The folder cannot be written.
    """
    try:
        handle, name = tempfile.mkstemp(prefix=f".{target.name}.", suffix=".tmp", dir=target.parent)
        os.close(handle)
    except OSError as error:
        raise OutputError(f"cannot write {target}: {error.strerror or error}") from error
    temporary = Path(name)
    try:
        yield temporary
        mode = target.stat().st_mode & 0o777 if target.exists() else 0o666 & ~_umask()
        temporary.chmod(mode)
        with temporary.open("rb") as written:
            os.fsync(written.fileno())
        temporary.replace(target)
    except OSError as error:
        raise OutputError(f"cannot write {target}: {error.strerror or error}") from error
    finally:
        temporary.unlink(missing_ok=True)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


@contextmanager
def staging_folder(target: Path) -> Iterator[Path]:
    """Yield a temporary folder beside `target`; on success the files in it are renamed to its side, `target` last.

    At any moment `target` is the old file, absent, or the new one: where there are companions (external data), the old
    `target` goes before they arrive, so that it never reads a companion that is not its own.

    Raises:
        OutputError: The folder cannot be written.
    """
    try:
        folder = Path(tempfile.mkdtemp(prefix=f".{target.name}.", suffix=".tmp", dir=target.parent))
    except OSError as error:
        raise OutputError(f"cannot write {target}: {error.strerror or error}") from error
    try:
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
