"""This section of a report says what is particular to an ONNX file: opset, storage, overhead, and what old x86 makes of
it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from codeq.toolkit.table import format_bytes, format_count, format_ratio
from export.onnx.saturation import PAIR_LIMIT, Saturation
from export.onnx.storage.kinds import PACKING
from export.report import Report


@dataclass(frozen=True)
class OnnxDetails:
    """Holds the details of an ONNX file.

    Attributes:
        opset, ir_version: Of the file.
        oldest_onnxruntime: The first release that opens the file and folds its decoders.
        storage: As it was asked for.
        decoder_bytes: Of functions that weights share.
        transient_bytes: What decoders compute when a session is created.
        packed_bytes: The file's bytes with `--storage packed`.
        overhead_bytes: The file without its weights: graph, names, biases, scales, metadata, shared decoders.
        float_weights: The tensors of two or more dimensions that stayed float, by their name in the file, with their
            bytes.
        external_data: The name of the file beside it; None where there is none.
        largest_code: Of the weights, where activations are quantized; else None.
        saturation: What kernels of x86 without VNNI could saturate at, and whether the file asks for others.
    """

    opset: int
    ir_version: int
    oldest_onnxruntime: str
    storage: str
    decoder_bytes: int
    transient_bytes: int
    packed_bytes: int
    overhead_bytes: int
    float_weights: dict[str, int]
    external_data: str | None
    largest_code: int | None
    saturation: Saturation

    @property
    def float_weight_bytes(self) -> int:
        """Return the weights that stayed float: of layers left out, embeddings, recurrent layers."""
        return sum(self.float_weights.values())

    @property
    def safe_without_vnni(self) -> bool | None:
        """Say whether old x86 computes the same codes without any session option; None for float files."""
        return None if self.largest_code is None else not self.saturation.session_options

    def smaller(self, report: Report[Any]) -> Mapping[str, str]:
        better = self.packed_bytes < report.size_bytes and self.storage not in PACKING
        return {"--storage": "packed"} if better else {}

    def to_dict(self) -> dict[str, Any]:
        return asdict(self) | {
            "float_weight_bytes": self.float_weight_bytes,
            "safe_without_vnni": self.safe_without_vnni,
        }

    def remarks(self, report: Report[Any]) -> Sequence[tuple[str, str]]:
        remarks = []
        if report.weights:
            ratio = format_ratio(report.size_bytes, report.entropy_bytes)
            remarks.append(("storage", f"{self.storage}: the file is {ratio}x the entropy bound of its codes"))
            if self.float_weights:
                count = format_count(len(self.float_weights), "tensor")
                remarks.append(("float weights", f"{format_bytes(self.float_weight_bytes)} in {count}"))
            decoders = f", {format_bytes(self.decoder_bytes)} of decoders" if self.decoder_bytes else ""
            overhead = f"{format_bytes(self.overhead_bytes)}: graph, names, scales, biases{decoders}"
            remarks.append(("overhead", overhead))
        if self.smaller(report):
            saved = format_bytes(report.size_bytes - self.packed_bytes)
            remarks.append(("with packed", f"{format_bytes(self.packed_bytes)}, {saved} less"))
        if self.largest_code is not None:
            remarks.append(("x86 without VNNI", f"weight codes within {self.largest_code}: {self._verdict()}"))
        oldest = f"onnxruntime {self.oldest_onnxruntime} is the oldest that should load it"
        remarks.append((f"opset {self.opset}, IR {self.ir_version}", oldest))
        if self.external_data:
            remarks.append(("external data", self.external_data))
        return remarks

    def _verdict(self) -> str:
        found = self.saturation
        if found.session_options:
            left = [name for name in found.weights if name not in found.unsigned]
            largest = max(found.pair_sums[name] for name in left)
            more = f" and {len(left) - 1} more" if len(left) > 1 else ""
            why = f"two codes sum to {largest}, beyond {PAIR_LIMIT}"
            return f"exact with the file's session options; without them {left[0]}{more} may saturate: {why}"
        return "exact, read as uint8" if found.unsigned else "exact, no pair of products saturates"
