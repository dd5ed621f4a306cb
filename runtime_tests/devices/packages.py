"""Programs and Pythons for emulators, from Debian's packages and the registry's wheels, unpacked in a folder."""

import shutil
import sys
import sysconfig
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

from codeq.toolkit.locks import written_by_one
from export.backend import BACKENDS, get_backend
from runtime_tests.devices.processor import MissingError, run_tool

DEBIAN_PYTHON = [
    *("libc6", "libgcc-s1", "gcc-12-base", "libstdc++6", "zlib1g", "libexpat1", "libffi8", "libbz2-1.0", "liblzma5"),
    *("libssl3", "libuuid1", "libcrypt1", "libpython3.11-minimal", "libpython3.11-stdlib", "python3.11-minimal"),
]
"""Python 3.11 of Debian 12 and what it loads."""
EMULATORS = ("qemu-aarch64-static", "qemu-x86_64-static")
WHEELS = ("numpy", *(get_backend(name).package for name in BACKENDS))
"""In the versions that are installed here."""


def make_folder(folder: Path) -> None:
    """Make the folder that emulators and packages are kept in.

    Raises:
        MissingError: It cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise MissingError(f"{folder}: cannot be the folder of emulators ({error.strerror})") from error


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
        OutputError: Another process is unpacking them.
    """
    target, done = folder / name, folder / f"{name}.done"
    if done.exists():
        return
    with written_by_one(target, "unpacking packages"):
        if not done.exists():
            _unpack_debian(target, packages, architecture, with_dependencies=with_dependencies)
            done.touch()


def _unpack_debian(target: Path, packages: list[str], architecture: str | None, *, with_dependencies: bool) -> None:
    what = f"{'Arm ' if architecture else ''}{packages[0 if with_dependencies else -1]} of Debian"
    run_tool(["apt-get", "--version"], what)  # before anything is made
    state = target.with_name(f"{target.name}.apt")
    cache = state / "cache" / "archives"
    for path in (state / "state" / "lists" / "partial", cache / "partial", target):
        path.mkdir(parents=True, exist_ok=True)
    (state / "state" / "status").touch()
    options = [f"-oDir::State={state / 'state'}", f"-oDir::State::status={state / 'state' / 'status'}"]
    options += [f"-oDir::Cache={state / 'cache'}", "-oAPT::Sandbox::User=root"]
    options += [f"-oAPT::Architecture={architecture}", f"-oAPT::Architectures={architecture}"] if architecture else []
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


def fetch_python(folder: Path, name: str, architecture: str | None, platforms: Sequence[str]) -> None:
    """Unpack Debian's Python with NumPy and the runtimes into `folder / name`, in the versions that are installed here.

    Args:
        folder: Where apt keeps its state too.
        name: Of the folder in it.
        architecture: Another one than the system's; None is that.
        platforms: Tags of wheels that it takes, the newest first.

    Raises:
        MissingError: They cannot be had, or the Python here is not Debian's.
    """
    if sys.version_info[:2] != (3, 11):
        raise MissingError(
            "an emulated processor runs Debian's Python 3.11; use Python 3.11 here, so that versions are the same"
        )
    fresh = not (folder / f"{name}.done").exists()
    fetch_debian(folder, name, DEBIAN_PYTHON, architecture)
    root = folder / name
    if fresh:  # Debian compiles them as it installs; an emulator that does takes longer than for all else
        library = root / "usr" / "lib" / "python3.11"
        words = ["-m", "compileall", "-q", "--invalidation-mode", "unchecked-hash"]
        words += ["-s", str(root), "-p", "/", str(library)]
        run_tool([sys.executable, *words], "Python")
    _fetch_wheels(root / "opt" / "site", platforms)


def wanted_wheels() -> list[str]:
    """Name the wheels with the versions that are installed here."""
    return [f"{name}=={version(name)}" for name in WHEELS]


def _fetch_wheels(site: Path, platforms: Sequence[str]) -> None:
    wanted = wanted_wheels()
    done = site.with_name("wheels.done")
    if done.exists() and done.read_text() == " ".join(wanted):
        return
    with written_by_one(site, "unpacking wheels"):
        _unpack_wheels(site, platforms, wanted)
        done.write_text(" ".join(wanted))


def _unpack_wheels(site: Path, platforms: Sequence[str], wanted: list[str]) -> None:
    shutil.rmtree(site, ignore_errors=True)
    places = [word for name in platforms for word in ("--platform", name)]
    tag = ["--only-binary=:all:", "--python-version", sysconfig.get_python_version(), "--implementation", "cp"]
    run_tool(
        [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", site, *tag, *places, *wanted],
        f"a wheel for {platforms[0]}",
    )
