"""This module is the entry of .tflite files and LiteRT in `export.backend.BACKENDS`."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from codeq.toolkit.cli import Reportable
from export.backend import OnProgress, OpeningCode, Written
from export.errors import ExportError
from export.options import ExportRequest
from export.tflite.file.identifier import IDENTIFIER
from export.tflite.options import WRITER, TfliteRequest

if TYPE_CHECKING:
    from torch import nn

    from export.parity.held import Held
    from export.parity.verdict import Verdict
    from export.program.prepare import Prepared
    from export.program.program import ReferenceProgram
    from export.reference.machine import IntegerReference
    from export.tflite.runner import LiteRtRunner
    from export.tflite.stored_file import TfliteFile


class TfliteBackend:
    """See `Backend`."""

    name = "tflite"
    suffix = ".tflite"
    file = "a .tflite file"
    runtime = "LiteRT"
    package = "ai_edge_litert"
    request: type[ExportRequest] = TfliteRequest
    variants: Mapping[str, Mapping[str, Any]] = {"litert": {}}

    def require(self) -> None:
        from export.tflite.runtime import installed_version

        installed_version()

    def recognizes(self, path: Path) -> bool:
        if not path.is_file():
            return path.suffix == self.suffix
        with path.open("rb") as file:
            return file.read(8)[4:] == IDENTIFIER or path.suffix == self.suffix

    def write(self, prepared: "Prepared", request: TfliteRequest, staged: Path) -> Written:
        from export.tflite.write import write_tflite

        return write_tflite(prepared, request, staged)

    def read(self, path: Path) -> "TfliteFile":
        from export.tflite.stored_file import read_file

        return read_file(path)

    def incomparable(self, stored: "TfliteFile") -> str:
        from export.tflite.file.flatbuffer import DESCRIPTION, text_of

        converted = stored.writer != WRITER and text_of(stored.content.description) != DESCRIPTION
        return f"{stored.writer} converted it" if converted else ""

    def recorded_options(self, stored: "TfliteFile") -> Mapping[str, Any]:
        if stored.writer != WRITER:
            return {"backend": stored.writer}
        if stored.cpu is not None:
            return {}
        return {
            "sparse": stored.metadata.storage,
            "layout": "nhwc" if stored.channels_last_io else "nchw",
            "io": "int8" if stored.codes_io else "float",
        }

    def content(self, stored: "TfliteFile") -> Any:
        from export.tflite.content import content_of

        return content_of(stored.content)

    def record_mismatch(self, path: Path, failure: str) -> None:
        from export.tflite.stored_file import record_mismatch

        record_mismatch(path, failure)

    def check(
        self,
        stored: "TfliteFile",
        model: "nn.Module",
        held: "Held",
        program: "ReferenceProgram | None",
        on_progress: OnProgress,
    ) -> "Verdict":
        from export.tflite.verify import check

        return check(stored, model, held, program, on_progress)

    def reference(self, program: "ReferenceProgram", cpu: str | None = None) -> "IntegerReference":
        from export.tflite.verify import reference_of

        return reference_of(program, cpu)

    def kernels(self, stored: "TfliteFile", program: "ReferenceProgram") -> Mapping[str, str]:
        return stored.kernels

    def is_exact(self, kernel: str) -> bool:
        return kernel != "float"

    def open_runner(self, path: Path, *, threads: int | None = None, look_at: Sequence[str] = ()) -> "LiteRtRunner":
        from export.tflite.runner import LiteRtRunner

        return LiteRtRunner(path, threads, look_at)

    def try_out(self, path: Path, run: Callable[["LiteRtRunner"], object], *, threads: int | None = None) -> None:
        from export.tflite.runner import LiteRtRunner
        from export.tflite.trusted import trust

        runner = LiteRtRunner(path, threads)
        if runner.is_remote:
            runner.open()
            run(runner)
            trust(runner.data)

    def trust(self, path: Path) -> None:
        from export.tflite.stored_file import read_bytes
        from export.tflite.trusted import trust

        trust(read_bytes(path))

    def preload(self) -> None:
        from export.tflite.runtime import interpreter, schema

        schema()
        interpreter()

    def files(self, path: Path) -> list[Path]:
        return [path]

    def inspect(self, path: Path) -> Reportable:
        from export.tflite.inspect import inspect_file

        return inspect_file(path)

    def opening_code(self, stored: "TfliteFile") -> OpeningCode:
        from export.tflite.opening_code import opening_code

        return opening_code(stored)

    def materialize(self, source: Path, target: Path, *, force: bool) -> Reportable:
        raise ExportError(
            f"{source}: only ONNX files are decoded to dense ones; for dense weights in a .tflite file, export the "
            "checkpoint again with --sparse off"
        )


TFLITE = TfliteBackend()
