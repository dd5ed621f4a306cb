"""Emulated Arm processors: Debian's qemu-user runs an arm64 Python and the registry's aarch64 wheels, all in a folder.

Nothing is installed in the system: Debian's packages are unpacked, and apt keeps its state in the folder too. QEMU's
own default processor (`max`) computes garbage in XNNPACK's int8 kernels, by its SME; so a processor is always named.
pytorch/cpuinfo, which onnxruntime and LiteRT use, dies on the host's /proc/cpuinfo: the emulator finds an Arm one in
the folder.
"""

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from runtime_tests.devices.packages import emulator_version, fetch_debian, fetch_python
from runtime_tests.devices.processor import MissingError, Processor

MACS = 4 * 10**7
PLATFORMS = ("manylinux_2_28_aarch64", "manylinux_2_27_aarch64", "manylinux_2_17_aarch64", "manylinux2014_aarch64")
BASE = "fp asimd evtstrm aes pmull sha1 sha2 crc32 cpuid"
ARMV8_2 = f"{BASE} atomics fphp asimdhp asimdrdm lrcpc dcpop asimddp"


class Core(NamedTuple):
    """Says what /proc/cpuinfo holds of a core, and the emulator's name for it."""

    part: str
    features: str
    qemu: str


CORES: Mapping[str, Core] = {
    "cortex-a53": Core("0xd03", BASE, "cortex-a53"),
    "cortex-a72": Core("0xd08", BASE, "cortex-a72"),
    "cortex-a76": Core("0xd0b", ARMV8_2, "cortex-a76"),
    "armv8.6-i8mm": Core("0xd0b", f"{ARMV8_2} i8mm bf16", "max,sme=off"),
}
"""A53 and A72 have no dot products of bytes, A76 has (SDOT); the last one multiplies matrices of them (i8mm)."""
NAMES = tuple(CORES)


def prepare(folder: Path) -> list[Processor]:
    """Fetch what is missing, about 125 MB, and give the processors.

    Args:
        folder: Where it is kept.

    Raises:
        MissingError: No apt or no packages, another Python than 3.11, or no wheels for it.
    """
    if not sys.platform.startswith("linux"):
        raise MissingError("emulated Arm needs Linux, with Debian's apt-get")
    folder = folder.resolve()
    root, emulator = folder / "arm64", folder / "qemu" / "usr" / "bin" / "qemu-aarch64-static"
    fetch_debian(folder, "qemu", ["qemu-user-static"], None)
    fetch_python(folder, root.name, "arm64", PLATFORMS)
    for name, core in CORES.items():
        _describe_core(folder / f"cores/{name}", root, core)
    how = emulator_version(emulator)
    return [_processor(name, core, folder, emulator, how) for name, core in CORES.items()]


def _describe_core(view: Path, root: Path, core: Core) -> None:
    """Give a core a view of the system of its own: links to the shared one, and its /proc/cpuinfo."""
    (view / "proc").mkdir(parents=True, exist_ok=True)
    for part in root.iterdir():
        link = view / part.name
        if part.name != "proc" and not link.is_symlink():
            link.symlink_to(os.path.relpath(part, view))
    text = "".join(
        f"processor\t: {number}\nBogoMIPS\t: 100.00\nFeatures\t: {core.features}\nCPU implementer\t: 0x41\n"
        f"CPU architecture: 8\nCPU variant\t: 0x0\nCPU part\t: {core.part}\nCPU revision\t: 3\n\n"
        for number in range(2)
    )
    (view / "proc" / "cpuinfo").write_text(text)


def _processor(name: str, core: Core, folder: Path, emulator: Path, how: str) -> Processor:
    view = (folder / "cores" / name).resolve()
    environment = {
        "QEMU_CPU": core.qemu,
        "PYTHONPATH": str(view / "opt" / "site"),
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONHOME": "",
    }
    return Processor(
        name,
        "arm",
        (str(emulator.resolve()), "-L", str(view), str(view / "usr/bin/python3.11")),
        environment,
        how,
        MACS,
    )
