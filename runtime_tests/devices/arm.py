"""Emulated Arm processors: Debian's qemu-user runs an arm64 Python and the registry's aarch64 wheels, all in a folder.

Nothing is installed in the system: Debian's packages are unpacked, and apt keeps its state in the folder too. QEMU's
own default processor (`max`) computes garbage in XNNPACK's int8 kernels, by its SME; so a processor is always named.
pytorch/cpuinfo, which onnxruntime and LiteRT use, dies on the host's /proc/cpuinfo: the emulator finds an Arm one in
the folder.
"""

import os
import shutil
import sys
import sysconfig
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

from export.backend import BACKENDS, get_backend
from runtime_tests.devices.processor import MissingError, Processor, run_tool

DEBIAN = [
    *("libc6", "libgcc-s1", "gcc-12-base", "libstdc++6", "zlib1g", "libexpat1", "libffi8", "libbz2-1.0", "liblzma5"),
    *("libssl3", "libuuid1", "libcrypt1", "libpython3.11-minimal", "libpython3.11-stdlib", "python3.11-minimal"),
]
"""Python 3.11 of Debian 12 and what it loads."""
EMULATORS = ("qemu-aarch64-static", "qemu-x86_64-static")
WHEELS = ("numpy", *(get_backend(name).package for name in BACKENDS))
"""In the versions that are installed here."""
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
    fetch_debian(folder, "arm64", DEBIAN, "arm64")
    _fetch_wheels(root / "opt" / "site")
    for name, core in CORES.items():
        _describe_core(folder / f"cores/{name}", root, core)
    how = emulator_version(emulator)
    return [_processor(name, core, folder, emulator, how) for name, core in CORES.items()]


def emulator_version(emulator: Path) -> str:
    """Say in a few words which emulator it is, e.g. "qemu-aarch64 7.2.22"."""
    return run_tool([emulator, "--version"], "qemu").splitlines()[0].split("(")[0].strip().replace(" version", "")


def fetch_debian(
    folder: Path, name: str, packages: list[str], architecture: str | None, *, with_dependencies: bool = False
) -> None:
    """Unpack Debian's packages into `folder / name`, unless that was done before.

    Args:
        folder: Where apt keeps its state too.
        name: Of the folder in it.
        packages: Their names.
        architecture: Another one than the system's; None is that.
        with_dependencies: Unpack all that they depend on, too.

    Raises:
        MissingError: They cannot be had.
    """
    target, done = folder / name, folder / f"{name}.done"
    if done.exists():
        return
    state = folder / f"{name}.apt"
    cache = state / "cache" / "archives"
    for path in (state / "state" / "lists" / "partial", cache / "partial", state / "etc", target):
        path.mkdir(parents=True, exist_ok=True)
    for source in Path("/etc/apt").glob("*"):
        place = state / "etc" / source.name
        if source.is_dir():
            shutil.copytree(source, place, dirs_exist_ok=True)
        else:
            shutil.copy(source, place)
    (state / "state" / "status").touch()
    options = [f"-oDir::State={state / 'state'}", f"-oDir::State::status={state / 'state' / 'status'}"]
    options += [f"-oDir::Cache={state / 'cache'}", "-oAPT::Sandbox::User=root"]
    options += [f"-oAPT::Architecture={architecture}", f"-oAPT::Architectures={architecture}"] if architecture else []
    what = f"{'Arm ' if architecture else ''}{packages[0 if with_dependencies else -1]} of Debian"
    run_tool(["apt-get", *options, "update", "-qq"], what)
    words = ["download"]
    if with_dependencies:  # of an empty system, as the folder's is
        words = ["install", "--yes", "--download-only", "--no-install-recommends"]
    run_tool(["apt-get", *options, *words, "-qq", *packages], what, folder=cache)
    for package in sorted(cache.glob("*.deb")):
        run_tool(["dpkg", "-x", package, target], what)
    for emulator in target.glob("usr/bin/qemu-*-static"):  # of forty
        if emulator.name not in EMULATORS:
            emulator.unlink()
    shutil.rmtree(state)
    done.touch()


def _fetch_wheels(site: Path) -> None:
    wanted = [f"{name}=={version(name)}" for name in WHEELS]
    done = site.with_name("wheels.done")
    if done.exists() and done.read_text() == " ".join(wanted):
        return
    if sys.version_info[:2] != (3, 11):
        raise MissingError(
            "emulated Arm runs Debian's Python 3.11; use Python 3.11 here, so that versions are the same"
        )
    shutil.rmtree(site, ignore_errors=True)
    platforms = [word for name in PLATFORMS for word in ("--platform", name)]
    tag = ["--only-binary=:all:", "--python-version", sysconfig.get_python_version(), "--implementation", "cp"]
    run_tool(
        [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", site, *tag, *platforms, *wanted],
        "an aarch64 wheel",
    )
    done.write_text(" ".join(wanted))


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
