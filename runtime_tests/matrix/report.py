"""The report of the matrix: a row per file, and tables of what was timed."""

import platform
from dataclasses import asdict, dataclass
from typing import Any

import onnx
import onnxruntime as ort
import torch

from codeq.toolkit.table import fold_line, format_bytes, format_count, render_table
from runtime_tests.matrix.timing import ZooBench
from runtime_tests.matrix.zoo_file import MODES, ZooFile
from runtime_tests.networks import SEED, ZOO_ZEROS


@dataclass(frozen=True)
class ZooReport:
    """Holds all files, and what was timed, on so many threads of an operator."""

    files: tuple[ZooFile, ...]
    benches: tuple[ZooBench, ...]
    threads: int = 1

    @property
    def ok(self) -> bool:
        """Whether parity holds for every file."""
        return not any(file.failure for file in self.files)

    def to_dict(self) -> dict[str, Any]:
        versions = {"torch": str(torch.__version__), "onnxruntime": ort.__version__, "onnx": onnx.__version__}
        return {
            "seed": SEED,
            "zeros": ZOO_ZEROS,
            "threads": self.threads,
            "ok": self.ok,
            "files": [asdict(file) for file in self.files],
            "bench": [item.to_dict() for item in self.benches],
            "versions": versions | {"machine": platform.machine()},
        }

    def __str__(self) -> str:
        parts = [self._files(), *([self._benches()] if self.benches else [])]
        if any(item.litert for item in self.benches):
            parts.append(self._litert())
        return "\n\n".join(parts)

    def _files(self) -> str:
        header = ("network", "mode", "storage", "bytes", "of float32", "kernels", "parity")
        rows = [
            (
                file.network,
                MODES[file.activations],
                file.storage,
                "" if file.size_bytes is None else format_bytes(file.size_bytes),
                ""
                if file.size_bytes is None or not file.float32_bytes
                else f"{file.size_bytes / file.float32_bytes:.1%}",
                f"{file.integer_layers} / {file.float_layers}" if file.activations == "int8" else "float",
                "refused" if file.refused else "FAILED" if file.failure else f"{file.parity}: ok",
            )
            for file in self.files
        ]
        told = [file for file in self.files if file.failure or file.refused]
        lines = [render_table(header, rows)]
        for file in told:
            text = f"{file.network}, {MODES[file.activations]}, {file.storage}: {file.failure or file.refused}"
            lines.append(fold_line(text, 2))
        refused = sum(bool(file.refused) for file in self.files)
        written = len(self.files) - refused
        held = sum(not file.failure and not file.refused for file in self.files)
        text = f"parity holds for {held} of {written} files; kernels: layers in integers / in float"
        lines.append(fold_line(text, 2))
        if refused:
            lines.append(f"refused by the export: {refused}")
        return "\n".join(lines)

    def _benches(self) -> str:
        header = (
            "network",
            "float32",
            "weights",
            "int8",
            "packed",
            "speed-up",
            "static",
            "its time",
            "its bytes",
            "packed",
        )
        rows = []
        for item in self.benches:
            results = (item.float32, item.weight_only, item.int8, item.packed)
            static, int8, packed = item.quantize_static, *map(item.of_quantize_static, (item.int8, item.packed))
            rows.append(
                (
                    item.network,
                    *(f"{result.latency_ms:.3f}" for result in results),
                    f"{item.float32.latency_ms / item.int8.latency_ms:.2f}x",
                    f"{static.latency_ms:.3f}" if static else "",
                    f"{int8['latency']:.2f}" if int8 else "",
                    f"{int8['bytes']:.2f}" if int8 else "",
                    f"{packed['bytes']:.2f}" if packed else "",
                )
            )
        rounds = ", ".join(f"{item.network} {item.rounds}" for item in self.benches)
        return "\n".join(
            [
                render_table(header, rows),
                fold_line(
                    f"medians in ms, batch 1, {format_count(self.threads, 'thread')}, onnxruntime {ort.__version__}; "
                    "weights: activations in float32",
                    2,
                ),
                fold_line(
                    "static: onnxruntime's quantize_static; then int8's time and bytes, and packed int8's bytes, over "
                    "its",
                    2,
                ),
                fold_line(f"interleaved runs: {rounds}", 0),
            ]
        )

    def _litert(self) -> str:
        header = (
            "network",
            "float32",
            "weights",
            "int8",
            "LiteRT: weights",
            "int8",
            "speed-up",
            "of int8.onnx",
            "bytes",
        )
        rows = []
        for item in self.benches:
            if item.litert is None or item.litert_int8 is None:
                continue
            results = (item.float32, item.weight_only, item.int8, item.litert, item.litert_int8)
            rows.append(
                (
                    item.network,
                    *(f"{result.latency_ms:.3f}" for result in results),
                    f"{item.litert.latency_ms / item.litert_int8.latency_ms:.2f}x",
                    f"{item.litert_int8.latency_ms / item.int8.latency_ms:.2f}",
                    f"{item.litert_int8.size_bytes / item.int8.size_bytes:.2f}",
                )
            )
        return "\n".join(
            [
                render_table(header, rows),
                fold_line(
                    "the same runs; LiteRT: weight-only, then int8 and its speed-up over that, then LiteRT's int8 file "
                    "over onnxruntime's: time and bytes",
                    2,
                ),
            ]
        )
