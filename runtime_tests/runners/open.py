"""Which runtime opens which file."""

from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path

from export.tflite.runtime import interpreter, schema
from export.tflite.stored_file import is_tflite
from runtime_tests.runners.litert_runner import LiteRtRunner
from runtime_tests.runners.onnxruntime_runner import OnnxruntimeRunner
from runtime_tests.runners.openvino_runner import OpenVinoRunner
from runtime_tests.runners.runner import Runner

RUNTIMES: dict[str, Callable[[Path, int | None, Sequence[str]], Runner]] = {
    "onnxruntime": OnnxruntimeRunner,
    "litert": LiteRtRunner,
    "openvino": OpenVinoRunner,
}
PACKAGES = {"onnxruntime": "onnxruntime", "litert": "ai_edge_litert", "openvino": "openvino"}


def runtimes_for(path: Path) -> tuple[str, ...]:
    """Those of RUNTIMES that take this format, the one it was made for first."""
    return ("litert",) if is_tflite(path) else ("onnxruntime", "openvino")


def installed(runtime: str) -> bool:
    """Whether a runtime can be imported."""
    return find_spec(PACKAGES[runtime]) is not None


def preload(path: Path) -> None:
    """Import what is not imported before it is needed: a runtime's own memory is not a file's."""
    if is_tflite(path):
        schema()
        interpreter()


def open_runner(
    path: Path, *, runtime: str | None = None, threads: int | None = None, look_at: Sequence[str] = ()
) -> Runner:
    """Open a file: `look_up` and `Runner.open`.

    Args:
        path: An ONNX or a .tflite file.
        runtime: Of RUNTIMES; None takes the one that the file was made for.
        threads: Threads within an operator; None leaves it to the runtime.
        look_at: Names of quantized activations whose codes come behind the outputs.

    Raises:
        ExportError: Missing, of no known format, or refused; the runtime is not installed.
    """
    runner = look_up(path, runtime=runtime, threads=threads, look_at=look_at)
    runner.open()
    return runner


def look_up(
    path: Path, *, runtime: str | None = None, threads: int | None = None, look_at: Sequence[str] = ()
) -> Runner:
    """Read what a file says about itself; arguments and errors are those of `open_runner`."""
    return RUNTIMES[runtime or runtimes_for(path)[0]](path, threads, look_at)
