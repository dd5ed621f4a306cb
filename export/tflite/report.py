"""What an export to LiteRT produced: per weight, per layer, and what it was checked with."""

import textwrap
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from codeq.toolkit.table import MAX_WIDTH, format_bytes, render_table
from export.parity.report import WeightReport
from export.tflite.group_reasons import group_reasons
from export.tflite.verify import TfliteVerdict

FORMS = {"dense": "int8", "csr": "CSR", "int4": "int4"}
"""What the table calls the forms of export/tflite/weights/form.py."""


@dataclass(frozen=True)
class TfliteReport:
    """The result of `export_tflite`; `print(report)` shows it, `to_dict` is for machines.

    `kernels` are the operators on codes by layer, `float_layers` what computes in float in an int8 file, with the
    reason where there is one. `operators` counts those in the file. A weight's `storage` is its form in the file, its
    `lowering` the operator that reads it; its `size_bytes` are of codes, positions, scales and, without zeros, of the
    DENSIFY.
    """

    path: Path
    size_bytes: int
    float32_bytes: int
    weights: tuple[WeightReport, ...]
    operators: dict[str, int]
    activations: str
    kernels: dict[str, str]
    float_layers: dict[str, str]
    folded_batch_norms: int
    skipped_folds: dict[str, str]
    verdict: TfliteVerdict
    notes: tuple[str, ...] = ()

    @property
    def sparsity(self) -> float:
        """Zeros over all quantized weights."""
        total = sum(weight.float32_bytes for weight in self.weights)
        return sum(weight.sparsity * weight.float32_bytes for weight in self.weights) / total if total else 0.0

    def to_dict(self) -> dict[str, Any]:
        """Everything, with plain types."""
        values = asdict(self)
        return values | {
            "path": str(self.path),
            "sparsity": self.sparsity,
            "compression_ratio": self.float32_bytes / self.size_bytes,
            "verdict": self.verdict.to_dict(),
            "notes": list(self.notes),
        }

    def __str__(self) -> str:
        header = ("weight", "shape", "bits", "zeros", "stored", "as")
        rows = [
            (
                weight.name,
                "x".join(map(str, weight.shape)),
                str(weight.bit_width),
                f"{weight.sparsity:.1%}",
                format_bytes(weight.size_bytes),
                _form(weight),
            )
            for weight in self.weights
        ]
        lines = [render_table(header, rows)] if rows else []
        lines.append(f"fold_batch_norm       {self.folded_batch_norms} folded, {len(self.skipped_folds)} skipped")
        operators = ", ".join(f"{count} {code}" for code, count in self.operators.items())
        lines.append(textwrap.fill(f"operators             {operators}", MAX_WIDTH, subsequent_indent=" " * 22))
        if self.activations == "int8":
            counts = Counter(self.kernels.values())
            lines.append("integer kernels       " + ", ".join(f"{count} {code}" for code, count in counts.items()))
            lines.append(f"stayed float          {len(self.float_layers)} layers")
            lines += [
                textwrap.fill(f"  {line}", MAX_WIDTH, subsequent_indent="    ", break_long_words=False)
                for line in group_reasons(self.float_layers)
            ]
        lines += [f"note                  {note}" for note in self.notes]
        ratio = f"{self.float32_bytes / self.size_bytes:.1f}x"
        sizes = f"{format_bytes(self.float32_bytes)} in float32 -> {format_bytes(self.size_bytes)} ({ratio})"
        lines.append(f"{self.path}   {sizes}, zeros {self.sparsity:.1%}")
        lines.append(f"parity                {self.verdict.summary}")
        return "\n".join(lines)


def _form(weight: WeightReport) -> str:
    """E.g. "CSR, DEQUANTIZE" or "int8, hybrid CONV_2D"."""
    return f"{FORMS[weight.storage]}, {weight.lowering}" if weight.storage in FORMS else weight.storage
