"""An emulated x86 machine with AVX512 and without VNNI: Bochs boots Debian's kernel and Python from a CD image.

QEMU knows no AVX512, and Bochs has a Skylake-X; but it emulates whole machines alone. So a CD image is made of Debian's
packages and the registry's wheels, and two disks take jobs in and results out (bochs_guest.py). The machine takes
about two minutes to start, and runs until this process ends.
"""

import atexit
import contextlib
import gzip
import hashlib
import json
import math
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from codeq.toolkit.text import printable
from export.errors import ExportError
from runtime_tests.devices import bochs_guest, bochs_screen, packages
from runtime_tests.devices.packages import fetch_debian, fetch_python, wanted_wheels
from runtime_tests.devices.processor import MAX_REASON, Launch, Processor, run_tool

LEVEL, MODEL = "avx512", "corei7_skylake_x"
MACS = 10**7
"""Bochs computes some thirty million instructions a second."""
START_S, JOB_S, END_S, PAUSE_S = 600, 400, 10, 0.1
PLATFORMS = ("manylinux_2_28_x86_64", "manylinux_2_27_x86_64", "manylinux_2_17_x86_64", "manylinux2014_x86_64")
MODULES = [
    "scsi/scsi_common",
    "scsi/scsi_mod",
    "ata/libata",
    "ata/ata_piix",
    "scsi/sd_mod",
    "cdrom/cdrom",
    "scsi/sr_mod",
]
"""Kernel modules for its disks and CD, in the order of their needs."""
GEOMETRY = (130, 16, 63)
"""Cylinders, heads and sectors of a disk of 64 MiB."""
DISK_BYTES = 512 * math.prod(GEOMETRY)
PRELOADED = ("numpy", "onnxruntime", "ai_edge_litert.interpreter")
"""Modules of its Python that every job would import."""
GUEST_ROOT = "/cd"
PROGRAM = "usr/bin/bochs-bin"
INIT = """#!/bin/busybox sh
b=/bin/busybox
$b mount -t proc proc /proc; $b mount -t sysfs sys /sys; $b mount -t devtmpfs dev /dev
for module in {modules}; do $b insmod /modules/$module.ko; done
until [ -b /dev/sr0 -a -b /dev/sdb ]; do $b sleep 0.1; done
$b mount -t iso9660 -o ro /dev/sr0 {root}
$b mount -t tmpfs tmp {root}/tmp; $b mount -t proc proc {root}/proc; $b mount --bind /dev {root}/dev
export PYTHONPATH=/opt/site PYTHONDONTWRITEBYTECODE=1
exec $b chroot {root} /usr/bin/python3.11 /opt/bochs_guest.py /dev/sda /dev/sdb {preloaded}
"""
# Bochs reports the size of XSAVE's compacted form wrongly, and the kernel would then use no AVX at all; so without it.
LOADER = """DEFAULT linux
PROMPT 0
LABEL linux
 KERNEL vmlinuz
 INITRD initrd
 APPEND console=ttyS0 quiet mitigations=off nokaslr clearcpuid=321,323 panic=1
"""
MACHINE = """plugin_ctrl: unmapped=1, biosdev=1, extfpuirq=1
display_library: term
config_interface: textconfig
memory: guest=1024, host=1024
cpu: model={model}, count=1, ips=40000000, reset_on_triple_fault=0, ignore_bad_msrs=1
romimage: file={bochs}/usr/share/bochs/BIOS-bochs-latest
vgaromimage: file={bochs}/usr/share/vgabios/vgabios.bin
pci: enabled=1, chipset=i440fx
clock: sync=none
boot: cdrom
ata0: enabled=1, ioaddr1=0x1f0, ioaddr2=0x3f0, irq=14
ata1: enabled=1, ioaddr1=0x170, ioaddr2=0x370, irq=15
ata0-master: type=disk, path={inbox}, mode=flat, cylinders={cylinders}, heads={heads}, spt={sectors}
ata0-slave: type=disk, path={outbox}, mode=flat, cylinders={cylinders}, heads={heads}, spt={sectors}
ata1-master: type=cdrom, path={cd}, status=inserted
com1: enabled=1, mode=file, dev={folder}/console
log: {folder}/log
panic: action=fatal
error: action=report
info: action=report
debug: action=ignore
"""


def prepare(folder: Path, check: Callable[[Launch], None]) -> Processor:
    """Fetch what is missing, make the CD (580 MB), and give the processor.

    Args:
        folder: Where it is kept.
        check: Called with what runs jobs, when the machine has started: sees that it is what it should be.

    Raises:
        MissingError: No apt or no packages, another Python than 3.11, or no wheels for it.
    """
    folder = folder.resolve()
    bochs = folder / "bochs"
    names = ["bochs", "bochs-term", "bochsbios", "vgabios"]
    fetch_debian(folder, bochs.name, names, None, with_dependencies=True)
    sources = [Path(name).read_text() for name in (__file__, bochs_guest.__file__, packages.__file__)] + wanted_wheels()
    cd = folder / f"bochs-{hashlib.sha256(repr(sources).encode()).hexdigest()[:12]}.iso"
    if not cd.exists():
        others = list(folder.glob("bochs-*.iso"))
        with tempfile.TemporaryDirectory(dir=folder) as scratch:
            _make_cd(Path(scratch), cd)
        for other in others:
            other.unlink()
    said = run_tool([bochs / PROGRAM, "--help"], "bochs", environment=libraries(bochs))
    version = next((line.split()[-1] for line in said.splitlines() if "Emulator" in line), "")
    machine = Machine(bochs, cd, check)
    how = f"Bochs {version}".strip()
    return Processor(LEVEL, "x86", (), how=how, macs=MACS, launch=machine.launch, begin=machine.begin)


def _make_cd(folder: Path, cd: Path) -> None:
    """Fetch a kernel, its loader and Python, and write the image; what was fetched can go."""
    names = ["isolinux", "syslinux-common", "busybox-static", "linux-image-cloud-amd64"]
    fetch_debian(folder, "boot", names, None, with_dependencies=True)
    fetch_debian(folder, "xorriso", ["xorriso"], None, with_dependencies=True)
    fetch_python(folder, "cd", None, PLATFORMS)
    boot, root = folder / "boot", folder / "cd"
    start = root / "isolinux"
    for name in ("tmp", "proc", "dev", start.name):
        (root / name).mkdir(exist_ok=True)
    shutil.copy(bochs_guest.__file__, root / "opt")
    kernel = next(boot.glob("boot/vmlinuz-*"))
    shutil.copy(kernel, start / "vmlinuz")
    shutil.copy(boot / "usr/lib/ISOLINUX/isolinux.bin", start)
    shutil.copy(boot / "usr/lib/syslinux/modules/bios/ldlinux.c32", start)
    (start / "isolinux.cfg").write_text(LOADER)
    modules = boot / "lib" / "modules" / kernel.name.partition("-")[2] / "kernel"
    files = {f"modules/{Path(name).name}.ko": (modules / f"drivers/{name}.ko").read_bytes() for name in MODULES}
    files["modules/isofs.ko"] = (modules / "fs/isofs/isofs.ko").read_bytes()
    files["bin/busybox"] = next(boot.glob("**/bin/busybox")).read_bytes()
    order = " ".join(Path(name).stem for name in files if name.startswith("modules/"))
    files["init"] = INIT.format(modules=order, preloaded=" ".join(PRELOADED), root=GUEST_ROOT).encode()
    (start / "initrd").write_bytes(gzip.compress(initial_files(files), 1, mtime=0))
    xorriso, image = folder / "xorriso", folder / cd.name
    words = ["-as", "mkisofs", "-quiet", "-R", "-o", str(image), "-b", "isolinux/isolinux.bin"]
    words += ["-c", "isolinux/boot.cat", "-no-emul-boot", "-boot-load-size", "4", "-boot-info-table", str(root)]
    run_tool([xorriso / "usr/bin/xorriso", *words], "a CD image", environment=libraries(xorriso))
    image.replace(cd)


def initial_files(files: dict[str, bytes]) -> bytes:
    """Pack files and the folders where a kernel mounts its own, in the cpio format ("newc") that Linux starts from."""
    folders = ["bin", "modules", "proc", "sys", "dev", GUEST_ROOT.strip("/")]
    entries = [(name, 0o40755, b"") for name in folders] + [(name, 0o100755, data) for name, data in files.items()]
    packed = bytearray()
    for number, (name, mode, data) in enumerate([*entries, ("TRAILER!!!", 0, b"")], 1):
        fields = (number, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(name) + 1, 0)
        packed += b"070701" + b"".join(b"%08x" % field for field in fields) + name.encode() + b"\0"
        packed += bytes(-len(packed) % 4) + data
        packed += bytes(-len(packed) % 4)
    return bytes(packed)


def libraries(root: Path) -> dict[str, str]:
    """Let a program of an unpacked package find its libraries."""
    places = [root / "usr/lib/x86_64-linux-gnu", root / "lib/x86_64-linux-gnu"]
    return {"LD_LIBRARY_PATH": ":".join(map(str, places)), "LTDL_LIBRARY_PATH": str(places[0] / "bochs" / "plugins")}


class Machine:
    """Runs jobs one at a time; starts with the first, or earlier where asked to, and ends with this process."""

    def __init__(self, bochs: Path, cd: Path, check: Callable[[Launch], None]) -> None:
        self.bochs, self.cd, self.check = bochs, cd, check
        self.scratch = Path()
        self.emulator: subprocess.Popen[bytes] | None = None
        self.jobs = 0
        self.failure = ""
        self.lock = threading.Lock()

    def launch(self, words: Sequence[str], environment: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
        """Run a script on the machine; paths among its arguments that are no files are what it makes.

        Args:
            words: The script and its arguments.
            environment: Variables of the machine's Python.

        Raises:
            ExportError: The machine does not start, or does not answer.
        """
        with self.lock:
            self._start_once()
            if self.failure:
                raise ExportError(self.failure)
            return self._run(words, environment)

    def begin(self) -> None:
        """Start the machine in a thread of its own; the first job waits for it."""
        started = threading.Event()

        def start() -> None:
            with self.lock:
                started.set()
                self._start_once()

        threading.Thread(target=start, daemon=True).start()
        started.wait()

    def _start_once(self) -> None:
        if self.emulator is not None or self.failure:
            return
        try:
            self._start()
            self.check(self._run)
        except ExportError as error:  # no second start, which takes as long, for the next file
            self.failure = str(error)
            self.stop()

    def _run(self, words: Sequence[str], environment: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
        self.jobs += 1
        places = {f"{number}-{Path(word).name}": Path(word) for number, word in enumerate(words)}
        names = [name if place.is_absolute() else str(place) for name, place in places.items()]
        job = {"script": names[0], "arguments": names[1:], "environment": dict(environment)}
        files = {"job.json": json.dumps(job).encode()}
        files |= {name: place.read_bytes() for name, place in places.items() if place.is_file()}
        content = bochs_guest.pack(files)
        if len(content) > DISK_BYTES - bochs_guest.BLOCK:
            raise ExportError(f"Bochs: {Path(words[0]).name} and its files take more than {DISK_BYTES:,} bytes")
        bochs_guest.write_disk(self.scratch / "inbox", self.jobs, content)
        made = self._wait(START_S if self.jobs == 1 else JOB_S)
        done = json.loads(made.pop("done.json"))
        for name, made_content in made.items():
            if name in places:
                places[name].write_bytes(made_content)
        return subprocess.CompletedProcess(list(words), done["status"], done["stdout"], done["stderr"])

    def _start(self) -> None:
        self.scratch = Path(tempfile.mkdtemp(prefix="bochs-"))
        atexit.register(self.stop)
        cylinders, heads, sectors = GEOMETRY
        for name in ("inbox", "outbox"):
            with (self.scratch / name).open("wb") as disk:
                disk.truncate(DISK_BYTES)
        bochs = self.bochs
        (self.scratch / "machine").write_text(
            MACHINE.format(
                model=MODEL,
                bochs=bochs,
                folder=self.scratch,
                inbox=self.scratch / "inbox",
                outbox=self.scratch / "outbox",
                cd=self.cd,
                cylinders=cylinders,
                heads=heads,
                sectors=sectors,
            )
        )
        (self.scratch / "commands").write_text("c\n")  # to its debugger: go on
        words = [sys.executable, bochs_screen.__file__, str(bochs / PROGRAM), "-q"]
        words += ["-f", str(self.scratch / "machine"), "-rc", str(self.scratch / "commands")]
        environment = os.environ | libraries(bochs) | {"BXSHARE": str(bochs / "usr/share/bochs"), "TERM": "linux"}
        with (self.scratch / "said").open("wb") as said:
            self.emulator = subprocess.Popen(words, env=environment, stdin=subprocess.PIPE, stdout=said, stderr=said)

    def _wait(self, limit_s: float) -> dict[str, bytes]:
        assert self.emulator is not None
        end = time.monotonic() + limit_s
        outbox = self.scratch / "outbox"
        while time.monotonic() < end and self.emulator.poll() is None:
            head = bochs_guest.read_head(outbox)
            if head["job"] == self.jobs:
                return bochs_guest.unpack(bochs_guest.read_disk(outbox, head["bytes"], bochs_guest.BLOCK))
            time.sleep(PAUSE_S)
        status = self.emulator.poll()
        console, said = (_last_line(self.scratch / name) for name in ("console", "said"))
        self.stop()
        if status is None:
            raise ExportError(
                f"Bochs does not answer within {limit_s:.0f} s; its console's last line: {console or 'none'}"
            )
        raise ExportError(f"Bochs ended with {status}: {said or console or 'no word'}")

    def stop(self) -> None:
        """End the machine; a further job would start it anew."""
        if self.emulator is not None and self.emulator.stdin is not None:
            self.emulator.stdin.close()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.emulator.wait(END_S)
            self.emulator.kill()
            self.emulator.wait()
            self.emulator, self.jobs = None, 0
            shutil.rmtree(self.scratch, ignore_errors=True)


def _last_line(path: Path) -> str:
    lines = path.read_text(errors="replace").split("\n") if path.exists() else []
    return printable(next((line.strip() for line in reversed(lines) if line.strip()), ""), MAX_REASON)
