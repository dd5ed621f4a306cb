"""Locks that end with the process that holds them, whatever ends it: flock of the operating system.

Where there is no flock (Windows, some network folders), nothing is locked and every call succeeds. Files are then still
written whole, as files.py writes them.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from codeq.errors import OutputError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]


def try_lock(descriptor: int) -> bool | None:
    """Lock an open file or folder for this process; False if another one holds it, None if it cannot be locked."""
    if fcntl is None:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # a file system without locks
        return None
    return True


@contextmanager
def written_by_one(target: Path, work: str) -> Iterator[None]:
    """Hold the right to work on a file for as long as the block runs, across processes.

    The lock is a hidden file `.NAME.lock` beside it with the number of the process; one that a killed process has left
    is taken over. Where its folder is missing or cannot be written, or has no locks, nothing is held.

    Args:
        target: What is written in the end, once or many times.
        work: What another process would be doing to it, for the message: "training".

    Raises:
        OutputError: Another process holds the right.
    """
    lock = target.parent / f".{target.name}.lock"
    descriptor = None
    while descriptor is None:
        try:
            descriptor = os.open(lock, os.O_RDWR | os.O_CREAT, 0o644)
        except OSError:
            yield
            return
        if try_lock(descriptor) is False:
            owner = os.read(descriptor, 32).decode(errors="replace").strip()
            os.close(descriptor)
            who = f"process {owner}" if owner.isdigit() else "another process"
            raise OutputError(f"{target}: {who} is {work} into it; wait for it, stop it, or name another file")
        if not is_at(descriptor, lock):  # its last owner has just removed it
            os.close(descriptor)
            descriptor = None
    try:
        os.ftruncate(descriptor, 0)
        os.write(descriptor, f"{os.getpid()}\n".encode())
        yield
    finally:
        lock.unlink(missing_ok=True)
        os.close(descriptor)


def is_at(descriptor: int, path: Path) -> bool:
    """Say whether an open file or folder is still the one of that name."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except OSError:
        return False
