"""A job goes to a whole emulated machine over one disk and comes back over another; here a process serves it."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from export.errors import ExportError
from runtime_tests.devices import bochs, bochs_guest, bochs_screen, packages
from runtime_tests.devices.processor import Launch, Processor

SCRIPT = """import os, sys
text = open(sys.argv[1]).read()
open(sys.argv[2], "w").write(text.upper() + os.environ["CODEQ_CPU"])
print(len(text), sys.argv[3])
sys.exit(3 if text == "bad" else 0)
"""


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> bochs.Machine:
    """Give a machine whose emulator is a process that serves the disks as the guest does."""

    def emulator(words: list[str], *, env: Mapping[str, str], **kinds: Any) -> subprocess.Popen[bytes]:
        settings = Path(words[words.index("-f") + 1]).read_text()
        disks = [line.partition("path=")[2].split(",")[0] for line in settings.splitlines() if "type=disk" in line]
        assert env["LD_LIBRARY_PATH"].startswith(str(tmp_path))
        screen = words[: words.index(bochs_screen.__file__) + 1]
        return start([*screen, sys.executable, bochs_guest.__file__, *disks], **kinds)

    start = subprocess.Popen
    monkeypatch.setattr(bochs.subprocess, "Popen", emulator)
    machine = bochs.Machine(tmp_path / "bochs", tmp_path / "cd.iso", lambda launch: None)
    yield machine
    machine.stop()


def test_jobs_go_there_and_back(machine: bochs.Machine, tmp_path: Path) -> None:
    script, text, made = tmp_path / "script.py", tmp_path / "text", tmp_path / "made"
    script.write_text(SCRIPT)
    text.write_text("codes")
    processor = Processor("avx512", "x86", (), launch=machine.launch)
    assert processor.run(script, (text, made, "word")) == "5 word\n"
    assert made.read_text() == "CODESx86"
    text.write_text("other")  # what a job makes may be there from an earlier one
    assert processor.run(script, (text, made, "word")) == "5 word\n"
    assert made.read_text() == "OTHERx86"
    text.write_text("bad")
    with pytest.raises(ExportError, match=r"^avx512: script\.py ended with 3: no word"):
        processor.run(script, (text, made, "word"))
    script.write_text("raise ValueError('of the script')")
    with pytest.raises(ExportError, match="ended with 1: ValueError: of the script"):
        processor.run(script, ())
    scratch = machine.scratch
    assert scratch.exists()
    assert machine.emulator is not None
    machine.emulator.terminate()
    with pytest.raises(ExportError, match=r"^Bochs ended with 143: no word"):
        processor.run(script, ())
    assert not scratch.exists()


def test_a_machine_that_is_not_what_it_should_be_computes_nothing(machine: bochs.Machine, tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text("print('features')")

    def check(launch: Launch) -> None:
        raise ExportError(f"avx512: no {launch([str(script)], {}).stdout.strip()}")

    machine.check = check
    for _ in range(2):
        with pytest.raises(ExportError, match="avx512: no features"):
            machine.launch([str(script)], {})
        assert machine.emulator is None
    machine.failure = ""
    machine.check = lambda launch: None
    machine.begin()  # where nothing waits for it
    assert machine.launch([str(script)], {}).stdout == "features\n"
    assert machine.jobs == 1
    script.write_bytes(bytes(bochs.DISK_BYTES))
    with pytest.raises(ExportError, match=r"script\.py and its files take more than"):
        machine.launch([str(script)], {})


def test_a_disk_is_announced_last(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.write_bytes(bytes(1 << 20))
    assert bochs_guest.read_head(disk) == {"job": 0, "bytes": 0}
    files = {"a": bytes(range(256)) * 100, "empty": b""}
    content = bochs_guest.pack(files)
    bochs_guest.write_disk(disk, 7, content)
    head = bochs_guest.read_head(disk)
    assert head == {"job": 7, "bytes": len(content)}
    assert bochs_guest.unpack(bochs_guest.read_disk(disk, head["bytes"], bochs_guest.BLOCK)) == files


def test_the_first_files_are_in_the_kernel_s_format() -> None:
    files = {"init": b"#!/bin/sh\n", "bin/busybox": b"12345"}
    packed, place, found = bochs.initial_files(files), 0, {}
    while True:  # Documentation/driver-api/early-userspace/buffer-format.rst of Linux
        fields = [int(packed[place + 6 + 8 * i : place + 14 + 8 * i], 16) for i in range(13)]
        assert packed[place : place + 6] == b"070701"
        name = packed[place + 110 : place + 109 + fields[11]].decode()
        start = -(-(place + 110 + fields[11]) // 4) * 4
        if name == "TRAILER!!!":
            break
        found[name] = packed[start : start + fields[6]] if fields[1] & 0o170000 == 0o100000 else None
        place = -(-(start + fields[6]) // 4) * 4
    assert {name: data for name, data in found.items() if data is not None} == files
    assert [name for name, data in found.items() if data is None] == ["bin", "modules", "proc", "sys", "dev", "cd"]


SHOWS = """import os, pty, sys, tty
control, screen = pty.openpty()
tty.setraw(screen)
print(f'Bochs connected to screen "{os.ttyname(screen)}"', file=sys.stderr, flush=True)
os.write(control, b"x" * 100_000)
input() if "wait" in sys.argv else sys.exit(5)
"""


def test_a_full_screen_does_not_stop_the_machine(tmp_path: Path) -> None:
    script = tmp_path / "shows.py"
    script.write_text(SHOWS)
    owner, end = os.pipe()
    assert bochs_screen.watch([sys.executable, str(script)], owner) == 5
    threading.Timer(0.5, os.close, [end]).start()  # as where the process that started it is gone
    assert bochs_screen.watch([sys.executable, str(script), "wait"], owner) == -9
    os.close(owner)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_leaves_no_machine_behind(tmp_path: Path, number: signal.Signals) -> None:
    script, there = tmp_path / "machine.py", tmp_path / "there"
    script.write_text(f"import os, time\nopen({str(there)!r}, 'w').write(str(os.getpid()))\ntime.sleep(60)")
    words = [sys.executable, bochs_screen.__file__, sys.executable, str(script)]
    with subprocess.Popen(words, stdin=subprocess.PIPE) as screen:
        while not (there.exists() and there.read_text()):
            time.sleep(0.05)
        screen.send_signal(number)
        assert screen.stdin is not None
        screen.stdin.close()  # as the owner's end does, which the interrupt is for
        screen.wait(10)
    with pytest.raises(ProcessLookupError):
        os.kill(int(there.read_text()), 0)


def test_the_image_is_made_once_for_these_versions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Path] = []

    def tool(words: list[Any], what: str, **options: Any) -> str:
        return "               Bochs x86 Emulator 2.7\n" if "--help" in words else ""

    def make(folder: Path, cd: Path) -> None:
        made.append(cd)
        cd.touch()

    monkeypatch.setattr(bochs, "run_tool", tool)
    monkeypatch.setattr(bochs, "fetch_debian", lambda *words, **options: None)
    monkeypatch.setattr(bochs, "_make_cd", make)
    monkeypatch.setattr(packages, "version", lambda name: "1.0")
    assert bochs.prepare(tmp_path, lambda launch: None).how == "Bochs 2.7"
    bochs.prepare(tmp_path, lambda launch: None)
    assert len(made) == 1
    monkeypatch.setattr(packages, "version", lambda name: "2.0")
    bochs.prepare(tmp_path, lambda launch: None)
    assert list(tmp_path.glob("*.iso")) == made[1:]  # the one of other versions is gone
