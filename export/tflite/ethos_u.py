"""Arm's Ethos-U runs a file for TFLite Micro on an NPU: its compiler, vela, says what it makes of one.

Vela compresses weights by itself, so that zeros and codes of few bits, which take a byte each in the file, cost little
flash on the device. Figures are its own estimates.
"""

import csv
import re
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from codeq.toolkit.extras import install_hint
from codeq.toolkit.table import format_bytes

PACKAGE = "ethosu"
ACCELERATOR = "ethos-u55-128"
"""128 multiply-adds a cycle, the middle of three sizes."""
OPERATORS = re.compile(r"(CPU|NPU) operators = (\d+)")
KIBIBYTE = 1024


@dataclass(frozen=True)
class EthosU:
    """Says what vela makes of a file.

    Attributes:
        accelerator: For which NPU.
        npu_operators, cpu_operators: Where they run.
        flash_bytes, sram_bytes: What the compiled network takes.
        cycles: For one input.
        note: How to learn all that; empty where it is known.
    """

    accelerator: str = ACCELERATOR
    npu_operators: int = 0
    cpu_operators: int = 0
    flash_bytes: int = 0
    sram_bytes: int = 0
    cycles: int = 0
    note: str = ""

    def __str__(self) -> str:
        if self.note:
            return self.note
        total = self.npu_operators + self.cpu_operators
        return (
            f"{self.npu_operators} of {total} operators on {self.accelerator}, {format_bytes(self.flash_bytes)} of "
            f"flash, {format_bytes(self.sram_bytes)} of SRAM, {self.cycles:,} cycles an input, as vela estimates"
        )


def estimate(content: bytes) -> EthosU:
    """Compile a file, in a process of its own, and read what the compiler says."""
    if find_spec(PACKAGE) is None:
        return EthosU(note=f"its compiler says it where it is installed: {install_hint('ethos-u')}")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.tflite"
        path.write_bytes(content)
        words = ["-m", "ethosu.vela", str(path), "--output-dir", folder, "--accelerator-config", ACCELERATOR]
        done = subprocess.run([sys.executable, *words], capture_output=True, text=True, check=False)
        summaries = sorted(Path(folder).glob("*_summary_*.csv"))
        rows = list(csv.DictReader(summaries[0].read_text().splitlines())) if summaries else []
    if done.returncode or not rows:
        return EthosU(note="vela does not take the file; run it by hand for the reason")
    counts = {kind: int(count) for kind, count in OPERATORS.findall(done.stdout)}
    row = rows[0]
    return EthosU(
        npu_operators=counts.get("NPU", 0),
        cpu_operators=counts.get("CPU", 0),
        flash_bytes=_bytes(row["on_chip_flash_memory_used"]) + _bytes(row["off_chip_flash_memory_used"]),
        sram_bytes=_bytes(row["sram_memory_used"]),
        cycles=int(float(row["cycles_total"])),
    )


def _bytes(kibibytes: str) -> int:
    return round(float(kibibytes) * KIBIBYTE)
