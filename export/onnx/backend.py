"""This module is the entry of ONNX files and onnxruntime in `export.backend.BACKENDS`."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from codeq.toolkit.cli import Reportable
from export.backend import OnProgress, OpeningCode, Written
from export.onnx.options import OnnxRequest
from export.options import ExportRequest

if TYPE_CHECKING:
    from torch import nn

    from export.onnx.runner import OnnxruntimeRunner
    from export.onnx.stored_file import OnnxFile
    from export.parity.held import Held
    from export.parity.verdict import Verdict
    from export.program.prepare import Prepared
    from export.program.program import ReferenceProgram
    from export.reference.machine import IntegerReference


class OnnxBackend:
    """See `Backend`."""

    name = "onnx"
    suffix = ".onnx"
    file = "an ONNX file"
    runtime = "onnxruntime"
    package = "onnxruntime"
    request: type[ExportRequest] = OnnxRequest
    variants: Mapping[str, Mapping[str, Any]] = {
        storage: {"storage": storage} for storage in ("auto", "sparse", "packed")
    }

    def require(self) -> None:
        """onnx and onnxruntime are no extras."""

    def recognizes(self, path: Path) -> bool:
        return path.suffix == self.suffix

    def write(self, prepared: "Prepared", request: OnnxRequest, staged: Path) -> Written:
        from export.onnx.write import write_onnx

        return write_onnx(prepared, request, staged)

    def read(self, path: Path) -> "OnnxFile":
        from export.onnx.stored_file import read_file

        return read_file(path)

    def incomparable(self, stored: "OnnxFile") -> str:
        return ""

    def recorded_options(self, stored: "OnnxFile") -> Mapping[str, Any]:
        metadata = stored.metadata
        storage = {} if metadata.materialized else {"storage": metadata.storage}
        return storage | ({"target": metadata.target} if metadata.target else {})

    def content(self, stored: "OnnxFile") -> Any:
        from export.onnx.content import content_of

        return content_of(stored.model, stored.path)

    def record_mismatch(self, path: Path, failure: str) -> None:
        from export.onnx.stored_file import record_mismatch

        record_mismatch(path, failure)

    def check(
        self,
        stored: "OnnxFile",
        model: "nn.Module",
        held: "Held",
        program: "ReferenceProgram | None",
        on_progress: OnProgress,
    ) -> "Verdict":
        from export.onnx.verify import check

        return check(stored, model, held, program, on_progress)

    def reference(self, program: "ReferenceProgram", cpu: str | None = None) -> "IntegerReference":
        from export.reference.machine import IntegerReference
        from export.reference.processors import onnxruntime_rules, this_processor

        return IntegerReference(program, onnxruntime_rules(cpu or this_processor()))

    def kernels(self, stored: "OnnxFile", program: "ReferenceProgram") -> Mapping[str, str]:
        from export.onnx.kernels import kernels_of

        return kernels_of(stored.path, program)

    def is_exact(self, kernel: str) -> bool:
        from export.onnx.kernels import EXACT_KERNELS

        return kernel in EXACT_KERNELS

    def open_runner(
        self, path: Path, *, threads: int | None = None, look_at: Sequence[str] = ()
    ) -> "OnnxruntimeRunner":
        from export.onnx.runner import OnnxruntimeRunner

        return OnnxruntimeRunner(path, threads, look_at)

    def try_out(self, path: Path, run: Callable[["OnnxruntimeRunner"], object], *, threads: int | None = None) -> None:
        """Do nothing: onnxruntime refuses damaged files by itself."""

    def trust(self, path: Path) -> None:
        """Do nothing, likewise."""

    def preload(self) -> None:
        import onnxruntime  # noqa: F401

    def files(self, path: Path) -> list[Path]:
        from export.onnx.stored_file import files_of

        return files_of(path)

    def inspect(self, path: Path) -> Reportable:
        from export.onnx.inspect import inspect_file

        return inspect_file(path)

    def opening_code(self, stored: "OnnxFile") -> OpeningCode:
        from export.onnx.opening_code import opening_code

        return opening_code(stored)

    def materialize(self, source: Path, target: Path, *, force: bool) -> Reportable:
        from export.onnx.materialize import materialize

        return materialize(source, target, force=force)


ONNX = OnnxBackend()
