"""What an export produced: per weight and in total, and what it was checked with."""

from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from codeq.quantizer.grid import WeightEncoding
from codeq.toolkit.table import format_bytes, format_count, format_ratio, render_table
from export.onnx.kernels import LayerKernel
from export.onnx.storage.plan import PACKING
from export.onnx.verify import Verdict
from export.program.program import WeightRecord

SAFE_CODE = 63
"""2 x 255 x 63 is below 2^15; 2 x 255 x 65 is not."""


@dataclass(frozen=True)
class WeightReport:
    """One quantized weight as it is in the file. Sizes in bytes, with the tensors' names and the decoder's calls.

    `storage` is its encoding, `storage_reason` why; `lowering` names the operators that make it float.
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
    """The report of one weight: what its codes are, and how a file holds them.

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
    """How activations were quantized. `largest_code` is of the weights; `exclude` the patterns left float."""

    ranges: str
    tensors: int
    largest_code: int
    exclude: tuple[str, ...]

    @property
    def safe_without_vnni(self) -> bool:
        """Whether sums of two u8 x s8 products fit into int16, as old x86 kernels hold them."""
        return self.largest_code <= SAFE_CODE


@dataclass(frozen=True)
class Report:
    """The result of `export_onnx`; `print(report)` shows it, `to_dict` is for machines.

    `float32_bytes` is the network's parameters and buffers at 4 bytes each. `oldest_onnxruntime` is the first release
    that opens the file and folds its decoders. `float_weights` are the tensors of two or more dimensions that stayed
    float, by their name in the file, with their bytes. `decoder_bytes` are those of functions that weights share, and
    `transient_bytes` what they compute when a session is created; `packed_bytes` the file's with `--storage packed`.
    """

    path: Path
    size_bytes: int
    float32_bytes: int
    opset: int
    ir_version: int
    oldest_onnxruntime: str
    storage: str
    decoder_bytes: int
    transient_bytes: int
    packed_bytes: int
    weights: tuple[WeightReport, ...]
    float_weights: dict[str, int]
    verdict: Verdict
    folded_batch_norms: int
    skipped_folds: dict[str, str] = field(default_factory=dict)
    external_data: str | None = None
    activations: ActivationReport | None = None
    notes: tuple[str, ...] = ()

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
    def suggests_packed(self) -> bool:
        """Whether `--storage packed` would give a smaller file, and was not asked for."""
        return self.packed_bytes < self.size_bytes and self.storage not in PACKING

    @property
    def overhead_bytes(self) -> int:
        """The file without its weights: graph, names, biases, scales, metadata, shared decoders."""
        return self.size_bytes - sum(weight.size_bytes for weight in self.weights) - self.float_weight_bytes

    @property
    def float_weight_bytes(self) -> int:
        """The weights that stayed float: of layers left out, embeddings, recurrent layers."""
        return sum(self.float_weights.values())

    @property
    def entropy_bytes(self) -> float:
        """Shannon bound of the codes in the file; what is shared or unused is not in it again."""
        return sum(weight.entropy_bytes for weight in self.weights if weight.size_bytes)

    def to_dict(self) -> dict[str, Any]:
        """Everything, with plain types."""
        values = {
            "path": str(self.path),
            "size_bytes": self.size_bytes,
            "float32_bytes": self.float32_bytes,
            "compression_ratio": self.compression_ratio,
            "sparsity": self.sparsity,
            "entropy_bytes": self.entropy_bytes,
            "opset": self.opset,
            "ir_version": self.ir_version,
            "oldest_onnxruntime": self.oldest_onnxruntime,
            "external_data": self.external_data,
            "storage": self.storage,
            "decoder_bytes": self.decoder_bytes,
            "overhead_bytes": self.overhead_bytes,
            "float_weights": self.float_weights,
            "float_weight_bytes": self.float_weight_bytes,
            "transient_bytes": self.transient_bytes,
            "packed_bytes": self.packed_bytes,
            "folded_batch_norms": self.folded_batch_norms,
            "skipped_folds": self.skipped_folds,
            "notes": list(self.notes),
            "activations": self._activations_dict(),
        }
        return values | {"weights": [asdict(weight) for weight in self.weights], "parity": self.verdict.to_dict()}

    @property
    def kernels(self) -> tuple[LayerKernel, ...]:
        """What every layer became in onnxruntime; empty where activations are float32."""
        return () if self.verdict.integer is None else self.verdict.integer.kernels

    def _activations_dict(self) -> dict[str, Any] | None:
        if self.activations is None:
            return None
        values = asdict(self.activations) | {"safe_without_vnni": self.activations.safe_without_vnni}
        return values | {"kernels": [asdict(kernel) | {"integer": kernel.is_integer} for kernel in self.kernels]}

    def __str__(self) -> str:
        lines = []
        if self.weights:
            lines.append(self._table())
        if self.kernels:
            lines.append(self._kernel_table())
        lines.append(f"fold_batch_norm       {self.folded_batch_norms} folded, {len(self.skipped_folds)} skipped")
        lines += [f"                      {name}: {reason}" for name, reason in self.skipped_folds.items()]
        if self.weights:
            lines += self._storage_lines()
        for lowering, count in Counter(weight.lowering for weight in self.weights).items():
            lines.append(f"weights               {count} by {lowering}, exact")
        if self._packed_line():
            lines.append(self._packed_line())
        lines += self._activation_lines()
        lines += [f"note                  {note}" for note in self.notes]
        oldest = f"onnxruntime {self.oldest_onnxruntime} is the oldest that should load it"
        lines.append(f"opset {self.opset}, IR {self.ir_version}       {oldest}")
        data = f" (with {self.external_data})" if self.external_data else ""
        lines.append(
            f"{self.path}{data}   {format_bytes(self.float32_bytes)} in float32 -> {format_bytes(self.size_bytes)}"
            f" ({self.compression_ratio:.1f}x), zeros {self.sparsity:.1%}"
        )
        if self.verdict.integer is not None:
            floats = self.verdict.integer.reported[-1]
            lines.append(
                f"next to float32       argmax differs on {floats.argmax_differences} of {self.verdict.inputs} inputs, "
                f"outputs by up to {floats.max_abs_error:.2g}"
            )
        lines.append(f"parity                {self.verdict.summary}")
        return "\n".join(lines)

    def _activation_lines(self) -> list[str]:
        if self.activations is None:
            return []
        counts = Counter(kernel.kernel for kernel in self.kernels if kernel.is_integer)
        stayed = sum(not kernel.is_integer for kernel in self.kernels)
        safety = "safe" if self.activations.safe_without_vnni else "may saturate; train with --grid-limit 63"
        return [
            f"activations           {self.activations.tensors} tensors uint8, ranges: {self.activations.ranges}",
            f"integer kernels       {', '.join(f'{count} {kernel}' for kernel, count in counts.items())}",
            f"stayed float          {stayed} layers",
            f"x86 without VNNI      weight codes within {self.activations.largest_code}: {safety}",
        ]

    def _kernel_table(self) -> str:
        rows = [(kernel.name, kernel.operator, kernel.kernel, kernel.reason) for kernel in self.kernels]
        return render_table(("layer", "operator", "kernel", "why float"), rows)

    def _storage_lines(self) -> list[str]:
        ratio = format_ratio(self.size_bytes, self.entropy_bytes)
        decoders = f", {format_bytes(self.decoder_bytes)} of decoders" if self.decoder_bytes else ""
        overhead = f"{format_bytes(self.overhead_bytes)}: graph, names, scales, biases{decoders}"
        floats = f"{format_bytes(self.float_weight_bytes)} in {format_count(len(self.float_weights), 'tensor')}"
        return [
            f"storage               {self.storage}: the file is {ratio}x the entropy bound of its codes",
            *([f"float weights         {floats}"] if self.float_weights else []),
            f"overhead              {overhead}",
        ]

    def _packed_line(self) -> str:
        """What `packed` would save; empty where it would not, or was used."""
        if not self.suggests_packed:
            return ""
        saved = format_bytes(self.size_bytes - self.packed_bytes)
        return f"with packed           {format_bytes(self.packed_bytes)}, {saved} less"

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
        stored = sum(weight.size_bytes for weight in self.weights)
        total = (
            "total",
            "",
            "",
            f"{self.sparsity:.1%}",
            format_bytes(stored),
            format_bytes(self.entropy_bytes),
            format_ratio(stored, self.entropy_bytes),
            "",
        )
        return render_table(header, rows, total)
