"""This table gives onnxruntime's rules by the kind of processor, which differ in one place alone: how codes are added.

| name | processors | verified by |
|---|---|---|
| `x86` | x86-64 with FMA (2013 and later) | the kernels themselves |
| `x86-sse` | x86-64 without | emulation |
| `arm` | Arm, 64 bits, with NEON | emulation |
| `wasm` | WebAssembly, in browsers and Node | the kernels themselves |

XNNPACK's kernels, which LiteRT runs, follow one rule on all of them.
"""

import platform
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from export.reference.additions import add_fused, add_in_integers, add_plainly, add_unfused
from export.reference.machine import Rules
from export.reference.onnxruntime import ONNXRUNTIME

ADDITIONS: Mapping[str, Callable[..., Any]] = {
    "x86": add_fused,
    "x86-sse": add_unfused,
    "arm": add_in_integers,
    "wasm": add_plainly,
}
CPUINFO = Path("/proc/cpuinfo")


def onnxruntime_rules(cpu: str) -> Rules:
    """Give the rules of onnxruntime's kernels on a kind of processor; of one that is not known, those of x86."""
    addition = ADDITIONS.get(cpu, add_fused)
    return replace(ONNXRUNTIME, kernels={**ONNXRUNTIME.kernels, torch.ops.aten.add.Tensor: addition})


def this_processor() -> str:
    """Say which kind this process runs on."""
    machine = platform.machine().lower()
    if machine in ("aarch64", "arm64"):
        return "arm"
    flags = CPUINFO.read_text() if CPUINFO.exists() else ""
    return "x86-sse" if "flags" in flags and " fma " not in flags else "x86"
