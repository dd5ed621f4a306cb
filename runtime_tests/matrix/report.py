"""This report shows the matrix: a row for each file, and a table of what was timed."""

import platform
from dataclasses import asdict, dataclass
from typing import Any

from codeq.toolkit.table import fold_line, format_bytes, format_count, render_table
from codeq.toolkit.versions import installed_versions
from export.backend import BACKENDS, get_backend
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
        """Say whether parity holds for every file."""
        return not any(file.failure for file in self.files)

    def to_dict(self) -> dict[str, Any]:
        versions = installed_versions("torch", *(get_backend(name).package for name in BACKENDS))
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
        return "\n\n".join([self._files(), *([self._benches()] if self.benches else [])])

    def _files(self) -> str:
        header = ("file", "bytes", "of float32", "kernels", "parity")
        rows = [
            (
                f"{file.network} {MODES[file.activations]} {file.variant}",
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
            text = f"{file.network}, {MODES[file.activations]}, {file.variant}: {file.failure or file.refused}"
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
        header = ("network", "file", "latency", "speed-up", "bytes", "of static: time", "bytes")
        rows = []
        for item in self.benches:
            static = item.quantize_static
            for file in (item.float32, *([static] if static else []), *item.files):
                over = item.of_quantize_static(file)
                rows.append(
                    (
                        item.network if file is item.float32 else "",
                        file.path,
                        f"{file.latency_ms:.3f} ms",
                        f"{file.speedup:.2f}x",
                        format_bytes(file.size_bytes),
                        f"{over['latency']:.2f}" if over else "",
                        f"{over['bytes']:.2f}" if over else "",
                    )
                )
        rounds = ", ".join(f"{item.network} {item.rounds}" for item in self.benches)
        threads = format_count(self.threads, "thread")
        notes = (
            f"medians, batch 1, {threads}; float32.onnx is torch's own export, and quantize_static (static) what "
            "onnxruntime makes of that for the networks of MLPerf Tiny; the last columns are over the latter; "
            f"interleaved runs: {rounds}"
        )
        return f"{render_table(header, rows)}\n{fold_line(notes, 0)}"
