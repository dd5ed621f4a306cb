#!/usr/bin/env python3
"""Serve jobs on an emulated machine: scripts come in on one disk, and what they make goes out on another.

    python3 bochs_guest.py INBOX OUTBOX [MODULE ...]

A disk begins with a block that holds a JSON object, {"job": number, "bytes": length}; a tar of so many bytes follows.
A tar that comes in holds job.json ({"script", "arguments", "environment"}) and the files it names; one that goes out
holds the files that the script made, and done.json ({"status", "stdout", "stderr"}). Nothing but Python is needed.
Modules are imported once for all jobs: an emulator takes longer for that than for what they compute.
"""

import contextlib
import importlib
import io
import json
import mmap
import os
import runpy
import sys
import tarfile
import tempfile
import time
import traceback
from pathlib import Path
from typing import Any

BLOCK = 4096
PAUSE_S = 0.05


def read_disk(path: str | Path, length: int, offset: int = 0) -> bytes:
    """Read a disk, a device past the cache, which does not see what the other side writes."""
    size = -(-length // BLOCK) * BLOCK
    place = os.open(path, os.O_RDONLY | (os.O_DIRECT if str(path).startswith("/dev/") else 0))
    try:
        buffer = mmap.mmap(-1, size)  # pages, as the disk wants them
        os.preadv(place, [buffer], offset)
        return buffer[:length]
    finally:
        os.close(place)


def write_disk(path: str | Path, number: int, content: bytes) -> None:
    """Write the tar before the block that announces it."""
    with open(path, "r+b", buffering=0) as disk:
        head = json.dumps({"job": number, "bytes": len(content)}).encode().ljust(BLOCK, b"\0")
        for offset, part in ((BLOCK, content), (0, head)):
            disk.seek(offset)
            disk.write(part)
            os.fsync(disk.fileno())


def read_head(path: str | Path) -> dict[str, int]:
    """Give the block that announces a job; one of zeros is none."""
    text = read_disk(path, BLOCK).rstrip(b"\0")
    head: dict[str, int] = json.loads(text) if text else {"job": 0, "bytes": 0}
    return head


def pack(files: dict[str, bytes]) -> bytes:
    """Make a tar of {name: content}."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    return stream.getvalue()


def unpack(content: bytes) -> dict[str, bytes]:
    """Give {name: content} of a tar."""
    with tarfile.open(fileobj=io.BytesIO(content)) as tar:
        files = {entry.name: tar.extractfile(entry) for entry in tar}
        return {name: file.read() for name, file in files.items() if file is not None}


def run(files: dict[str, bytes]) -> dict[str, bytes]:
    """Run a job in a process and a folder of its own, and give what it made."""
    job = json.loads(files.pop("job.json"))
    with tempfile.TemporaryDirectory() as folder:
        for name, content in files.items():
            with open(os.path.join(folder, name), "wb") as file:
                file.write(content)
        with open(os.path.join(folder, "stdout"), "wb") as out, open(os.path.join(folder, "stderr"), "wb") as err:
            child = os.fork()
            if not child:
                os.dup2(out.fileno(), 1)
                os.dup2(err.fileno(), 2)
                os.chdir(folder)
                os._exit(start(job))
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        made = {}
        for name in sorted(os.listdir(folder)):
            with open(os.path.join(folder, name), "rb") as file:
                content = file.read()
            if content != files.get(name):
                made[name] = content
        said = {name: made.pop(name).decode(errors="replace") for name in ("stdout", "stderr")}
    return {**made, "done.json": json.dumps({"status": status, **said}).encode()}


def start(job: dict[str, Any]) -> int:
    """Run the script as Python would, and give its exit status."""
    os.environ.update(job["environment"])
    sys.argv = [job["script"], *job["arguments"]]
    try:
        runpy.run_path(job["script"], run_name="__main__")
        status = 0
    except SystemExit as stop:
        status = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    except BaseException:
        traceback.print_exc()
        status = 1
    with contextlib.suppress(OSError):
        sys.stdout.flush()
        sys.stderr.flush()
    return status


def serve(inbox: str | Path, outbox: str | Path, jobs: int | None = None) -> None:
    """Run job after job; without end, or so many."""
    last = 0
    while last != jobs:
        head = read_head(inbox)
        if head["job"] == last:
            time.sleep(PAUSE_S)
            continue
        last = head["job"]
        write_disk(outbox, last, pack(run(unpack(read_disk(inbox, head["bytes"], BLOCK)))))


if __name__ == "__main__":
    for module in sys.argv[3:]:
        importlib.import_module(module)
    serve(sys.argv[1], sys.argv[2])
