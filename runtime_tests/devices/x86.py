"""This machine's x86 processor without some of its instructions, and older ones in an emulator.

| level | as of | how |
|---|---|---|
| `avx512` | AVX512 without VNNI: Skylake-X | CPUID faulting, or Bochs |
| `avx-vnni` | AVX2 with VNNI: Alder Lake | CPUID faulting |
| `avx2` | Haswell | CPUID faulting, or QEMU |
| `avx` | Sandy Bridge | CPUID faulting, or QEMU |
| `sse` | Nehalem | CPUID faulting, or QEMU |

CPUID faulting (Linux, `cpuid_fault` in /proc/cpuinfo) lets hide_features.c answer in the processor's place, at native
speed. QEMU (qemu-user, which Debian has) knows no AVX512; Bochs does, and boots a whole machine for it (bochs.py).
"""

import json
import platform
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path

from export.errors import ExportError
from runtime_tests.devices import bochs
from runtime_tests.devices.packages import emulator_version, fetch_debian
from runtime_tests.devices.processor import MissingError, Processor, launch_here, run_tool

FAULTING = ("avx512", "avx-vnni", "avx2", "avx", "sse")
NAMES = ("this one", *FAULTING)
EMULATED: Mapping[str, str] = {"avx2": "Haswell", "avx": "SandyBridge", "sse": "Nehalem"}
"""Levels and QEMU's names of processors that have just these."""
MACS = 10**7
"""QEMU computes AVX an element at a time."""
HIDDEN: Mapping[str, tuple[str, ...]] = {
    "avx512": ("AVX512VNNI",),
    "avx-vnni": ("AVX512F",),
    "avx2": ("AVX512F", "AVX512VNNI"),
    "avx": ("AVX2", "FMA3"),
    "sse": ("AVX", "AVX2", "FMA3"),
}
"""Features that NumPy must not find at a level: a check that hiding them works."""
THERE: Mapping[str, tuple[str, ...]] = {
    "avx512": ("AVX512F", "AVX512BW", "AVX512VL"),
    "avx-vnni": ("AVX2", "FMA3"),
    "avx2": ("AVX2", "FMA3"),
    "avx": ("AVX",),
    "sse": ("SSE42",),
}
"""Features that it must find."""
FEATURES = """
import json
from numpy._core._multiarray_umath import __cpu_features__ as features
print(json.dumps({name: bool(there) for name, there in features.items()}))
"""
CPUINFO = Path("/proc/cpuinfo")


def prepare(folder: Path) -> list[Processor]:
    """Build or fetch what is missing, and give the processors: this one, and each level below it.

    Args:
        folder: Where it is kept.

    Raises:
        MissingError: This is no x86 processor with Linux, or neither way is there.
    """
    if platform.machine() not in ("x86_64", "AMD64") or not CPUINFO.exists():
        raise MissingError("levels of x86 need an x86-64 processor and Linux")
    folder = folder.resolve()
    flags = set(next(line for line in CPUINFO.read_text().splitlines() if line.startswith("flags")).split())
    own = Processor("this one", "x86" if "fma" in flags else "x86-sse", (sys.executable,), {}, _name(flags))
    found = _by_faulting(folder, flags) if "cpuid_fault" in flags else _emulated(folder)
    for processor in found:
        starts_later = processor.launch is not launch_here  # and is checked then: Bochs takes minutes
        if not starts_later and not processor.missing:
            _check(processor, folder)
    return [own, *found]


def _by_faulting(folder: Path, flags: set[str]) -> list[Processor]:
    library = folder / "hide_features.so"
    source = Path(__file__).with_name("hide_features.c")
    run_tool(["gcc", "-O2", "-shared", "-fPIC", "-o", library, source], "hiding instructions")
    has = {
        "avx512": "avx512f" in flags,
        "avx-vnni": "avx_vnni" in flags,
        "avx2": "avx2" in flags,
        "avx": "avx" in flags,
    }
    return [
        Processor(
            level,
            "x86" if level in ("avx512", "avx-vnni", "avx2") else "x86-sse",
            (sys.executable,),
            {"LD_PRELOAD": str(library), "HIDDEN_ABOVE": level},
            "CPUID faulting",
        )
        for level in FAULTING
        if has.get(level, True)
    ]


def _emulated(folder: Path) -> list[Processor]:
    installed = shutil.which("qemu-x86_64-static") or shutil.which("qemu-x86_64")
    if installed is None:
        fetch_debian(folder, "qemu", ["qemu-user-static"], None)
    emulator = Path(installed or folder / "qemu" / "usr" / "bin" / "qemu-x86_64-static").resolve()
    how = emulator_version(emulator)
    whole = _whole_machine(folder)
    return [whole] + [
        Processor(
            level,
            "x86" if level == "avx2" else "x86-sse",
            (str(emulator), sys.executable),
            {"QEMU_CPU": name},
            how,
            MACS,
        )
        for level, name in EMULATED.items()
    ]


def _whole_machine(folder: Path) -> Processor:
    """Give the level that QEMU has not."""
    try:
        return bochs.prepare(folder, lambda launch: _check(Processor(bochs.LEVEL, "x86", (), launch=launch), folder))
    except MissingError as error:
        return Processor(bochs.LEVEL, "x86", (), how="Bochs", missing=str(error))


def _check(processor: Processor, folder: Path) -> None:
    """See that NumPy, which asks the processor itself, finds what a level has, and nothing that it has not."""
    script = folder / f"features-{processor.name}.py"
    script.write_text(FEATURES)
    features: dict[str, bool] = json.loads(processor.run(script, ()))
    for names, wanted, what in ((HIDDEN, False, "hidden"), (THERE, True, "there")):
        wrong = [name for name in names[processor.name] if features.get(name) is not wanted]
        if wrong:
            raise ExportError(f"{processor.name}: {wrong[0]} is not {what}, so nothing would be proved at this level")


def _name(flags: set[str]) -> str:
    known = [("avx512_vnni", "AVX512-VNNI"), ("avx_vnni", "AVX-VNNI"), ("avx512f", "AVX512"), ("avx2", "AVX2")]
    return next((name for flag, name in known if flag in flags), "older than AVX2")
