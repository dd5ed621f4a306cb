"""A report says what an export produced: per weight, per layer and in total, alike for every backend."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

from torch import nn

from codeq.channels.shrink import NOTHING_SHRUNK, ShrinkReport
from codeq.quantizer.grid import WeightEncoding
from codeq.quantizer.power import decibels_text
from codeq.quantizer.signal import NetworkSignal
from codeq.toolkit.report_version import FORMAT_VERSION
from codeq.toolkit.table import fold_line, format_bytes, format_ratio, render_table
from export.parity.checks import LayerKernel
from export.parity.signal import worst_of
from export.parity.verdict import Verdict
from export.program.program import WeightRecord

LABEL_WIDTH = 22
"""Where texts begin behind their labels."""


@dataclass(frozen=True)
class WeightReport:
    """Describes one quantized weight as it is in the file; sizes in bytes, with all that the file holds for it alone.

    `storage` is its encoding, `storage_reason` why; `lowering` names the operators that make it float, or read it.
    """

    name: str
    shape: tuple[int, ...]
    bit_width: int
    sparsity: float
    storage: str
    storage_reason: str
    size_bytes: int
    entropy_bytes: float
    float32_bytes: int
    batch_norm: str | None
    lowering: str


def describe_stored(
    record: WeightRecord, trained: WeightEncoding, *, storage: str, storage_reason: str, size_bytes: int, lowering: str
) -> WeightReport:
    """Make the report of one weight: what its codes are, and how a file holds them.

    Args:
        record: The weight as it is stored.
        trained: Its encoding as the network has it, in the network's shape.
        storage, storage_reason, size_bytes, lowering: As in `WeightReport`.
    """
    return WeightReport(
        name=record.name,
        shape=tuple(trained.codes.shape),
        bit_width=record.encoding.bit_width,
        sparsity=record.encoding.sparsity,
        storage=storage,
        storage_reason=storage_reason,
        size_bytes=size_bytes,
        entropy_bytes=record.encoding.entropy_bits() / 8,
        float32_bytes=4 * trained.codes.numel(),
        batch_norm=record.batch_norm,
        lowering=lowering,
    )


@dataclass(frozen=True)
class ActivationReport:
    """Says how activations were quantized. `largest_code` is of the weights; `exclude` the patterns left float."""

    ranges: str
    tensors: int
    largest_code: int
    exclude: tuple[str, ...]


class Details(Protocol):
    """Says what one backend has to say about a file beyond what all do."""

    def to_dict(self) -> dict[str, Any]:
        """Give it to machines, with plain types."""

    def remarks(self, report: "Report[Any]") -> Sequence[tuple[str, str]]:
        """Give it to people: labels and texts, one line each."""

    def smaller(self, report: "Report[Any]") -> Mapping[str, str]:
        """Give flags with which the command would have written a smaller file; none where there is no such."""


DetailsT = TypeVar("DetailsT", bound=Details, covariant=True)


@dataclass(frozen=True)
class Report(Generic[DetailsT]):
    """Holds the result of an export; `print(report)` shows it, `to_dict` is for machines.

    Attributes:
        backend: Its name in `export.backend.BACKENDS`.
        path: The file.
        size_bytes: Its bytes, with those of files beside it.
        float32_bytes: The network's parameters and buffers at 4 bytes each.
        weights: What is in it.
        verdict: What it was checked with.
        folded_batch_norms: How many.
        skipped_folds: BatchNorms that were not, with the reason.
        activations: None where activations are float32.
        details: The backend's own.
        notes: What the user should know.
        compressed: The attached network that the file was made from, where the export has compressed a plain one: what
            parity holds the file against. `codeq.save` keeps it.
        untrained: What quantizers that nobody trained have ruined; empty where they have not.
        weight_signal: What quantized weights leave of each layer's result and of the outputs next to the float weights
            behind them, on held inputs; None where grids are frozen, behind which there is no float network any more:
            the report of `codeq.compress` has it, and after training there is none.
        channels: Which were removed, and why others stay.
    """

    backend: str
    path: Path
    size_bytes: int
    float32_bytes: int
    weights: tuple[WeightReport, ...]
    verdict: Verdict
    folded_batch_norms: int
    details: DetailsT
    skipped_folds: dict[str, str] = field(default_factory=dict)
    activations: ActivationReport | None = None
    notes: tuple[str, ...] = ()
    compressed: nn.Module | None = field(default=None, repr=False, compare=False)
    untrained: str = ""
    weight_signal: NetworkSignal | None = None
    channels: ShrinkReport = NOTHING_SHRUNK

    @property
    def compression_ratio(self) -> float:
        """float32 bytes over stored bytes; above 1 is better."""
        return self.float32_bytes / self.size_bytes

    @property
    def sparsity(self) -> float:
        """Zeros over all quantized weights."""
        numel = sum(weight.float32_bytes for weight in self.weights)
        return sum(weight.sparsity * weight.float32_bytes for weight in self.weights) / numel if numel else 0.0

    @property
    def entropy_bytes(self) -> float:
        """Return the Shannon bound of the codes in the file; what is shared or unused is not in it again."""
        return sum(weight.entropy_bytes for weight in self.weights if weight.size_bytes)

    @property
    def weight_bytes(self) -> int:
        """Say what the file holds for its quantized weights."""
        return sum(weight.size_bytes for weight in self.weights)

    @property
    def kernels(self) -> tuple[LayerKernel, ...]:
        """Say what every layer became in the runtime; empty where activations are float32."""
        return self.verdict.kernels

    @property
    def warnings(self) -> tuple[str, ...]:
        """Say what quantization ruins, one line each: weights that nobody trained, then 8-bit activations."""
        ruined = () if self.verdict.signal is None else self.verdict.signal.warnings
        lost = [self.untrained] if self.untrained else []
        if not lost and self.weight_signal is not None and self.weight_signal.classes.is_loud:
            lost = [f"next to the float network {self.weight_signal.classes}: take more bits, or fewer zeros"]
        return (*lost, *ruined)

    def to_dict(self) -> dict[str, Any]:
        """Give everything to machines, with plain types; the same keys for every backend but in `details`."""
        return {
            "format_version": FORMAT_VERSION,
            "backend": self.backend,
            "path": str(self.path),
            "size_bytes": self.size_bytes,
            "float32_bytes": self.float32_bytes,
            "compression_ratio": self.compression_ratio,
            "sparsity": self.sparsity,
            "entropy_bytes": self.entropy_bytes,
            "weight_bytes": self.weight_bytes,
            "folded_batch_norms": self.folded_batch_norms,
            "skipped_folds": self.skipped_folds,
            "notes": list(self.notes),
            "warnings": list(self.warnings),
            "weight_signal": None if self.weight_signal is None else asdict(self.weight_signal),
            "channels": self.channels.to_dict(),
            "activations": None if self.activations is None else asdict(self.activations),
            "weights": [asdict(weight) for weight in self.weights],
            "parity": self.verdict.to_dict(),
            "details": self.details.to_dict(),
        }

    def __str__(self) -> str:
        lines = [self._table()] if self.weights else []
        if self.kernels:
            lines.append(self._kernel_table())
        if self.channels.changed:
            lines.append(self.channels.table)
        remarks = [
            ("fold_batch_norm", f"{self.folded_batch_norms} folded, {len(self.skipped_folds)} skipped"),
            *(("", f"{name}: {reason}") for name, reason in self.skipped_folds.items()),
            *([("channels", self.channels.line)] if self.channels.line else []),
            *self._lowering_remarks(),
            *self.details.remarks(self),
            *self._activation_remarks(),
            *self._weight_signal_remarks(),
            *(("note", note) for note in self.notes),
            *(("WARNING", text) for text in self.warnings),
        ]
        lines += [_remark(label, text) for label, text in remarks]
        sizes = f"{format_bytes(self.float32_bytes)} in float32 -> {format_bytes(self.size_bytes)}"
        lines.append(fold_line(f"{self.path}   {sizes} ({self.compression_ratio:.1f}x), zeros {self.sparsity:.1%}", 3))
        lines.append(_remark("parity", self.verdict.summary))
        return "\n".join(lines)

    def _lowering_remarks(self) -> list[tuple[str, str]]:
        counts = Counter(weight.lowering for weight in self.weights if weight.lowering)
        return [("weights", f"{count} by {lowering}, exact") for lowering, count in counts.items()]

    def _activation_remarks(self) -> list[tuple[str, str]]:
        if self.activations is None:
            return []
        counts = Counter(kernel.kernel for kernel in self.kernels if kernel.is_integer)
        stayed = sum(not kernel.is_integer for kernel in self.kernels)
        remarks = [
            ("activations", f"{self.activations.tensors} tensors in 8 bits, ranges: {self.activations.ranges}"),
            ("integer kernels", ", ".join(f"{count} {kernel}" for kernel, count in counts.items())),
            ("stayed float", f"{stayed} layers"),
        ]
        if self.verdict.signal is not None:
            worst = ", ".join(f"{i.layer} {decibels_text(i.decibels)}" for i in self.verdict.signal.worst_layers)
            remarks += [("signal to noise", item.text) for item in self.verdict.signal.outputs]
            remarks += [("worst layers", worst)] if worst else []
        for item in self.verdict.reported[-1:]:
            text = f"outputs differ by up to {item.max_abs_error:.2g}"
            if self.verdict.signal is not None and any(output.argmax_places for output in self.verdict.signal.outputs):
                text += f", argmax on {item.argmax_differences} of {self.verdict.inputs} inputs"
            remarks.append(("next to weight-only", text))
        return remarks

    def _weight_signal_remarks(self) -> list[tuple[str, str]]:
        if self.weight_signal is None:
            return []
        layers = [(name.removesuffix(".weight"), decibels) for name, decibels in self.weight_signal.results.items()]
        worst = ", ".join(f"{name} {decibels_text(found)}" for name, found in worst_of(layers))
        text = f"{self.weight_signal.text}{f'; worst layers {worst}' if worst else ''}"
        return [("next to float weights", text)]

    def _table(self) -> str:
        header = ("weight", "shape", "bits", "zeros", "stored", "bound", "ratio", "storage")
        rows = [
            (
                weight.name,
                "x".join(map(str, weight.shape)),
                str(weight.bit_width),
                f"{weight.sparsity:.1%}",
                format_bytes(weight.size_bytes),
                format_bytes(weight.entropy_bytes),
                format_ratio(weight.size_bytes, weight.entropy_bytes) if weight.size_bytes else "",
                weight.storage.removesuffix("_initializer"),
            )
            for weight in self.weights
        ]
        total = (
            "total",
            "",
            "",
            f"{self.sparsity:.1%}",
            format_bytes(self.weight_bytes),
            format_bytes(self.entropy_bytes),
            format_ratio(self.weight_bytes, self.entropy_bytes),
            "",
        )
        return render_table(header, rows, total)

    def _kernel_table(self) -> str:
        rows = [(kernel.name, kernel.operator, kernel.kernel, kernel.reason) for kernel in self.kernels]
        return render_table(("layer", "operator", "kernel", "why float"), rows)


def _remark(label: str, text: str) -> str:
    return fold_line(f"{label:<{LABEL_WIDTH}}{text}", LABEL_WIDTH)
