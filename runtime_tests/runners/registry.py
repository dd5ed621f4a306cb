"""This registry says which runtimes there are, and which of them open a file: those of every backend, and OpenVINO."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from export.backend import BACKENDS, backend_of, get_backend
from runtime_tests.runners.openvino import OpenVinoRuntime
from runtime_tests.runners.runtime import NativeRuntime, Runtime

if TYPE_CHECKING:
    from export.runner import Runner


def all_runtimes() -> dict[str, Runtime]:
    """Give every runtime by its name; those that files are made for first."""
    runtimes: list[Runtime] = [NativeRuntime(get_backend(name)) for name in BACKENDS]
    runtimes.append(OpenVinoRuntime())
    return {runtime.name: runtime for runtime in runtimes}


def runtimes_for(path: Path) -> tuple[Runtime, ...]:
    """Give the runtimes that take a file, the one it was made for first."""
    backend = backend_of(path)
    return tuple(runtime for runtime in all_runtimes().values() if runtime.backend is backend)


def open_runner(
    path: Path, *, runtime: Runtime | None = None, threads: int | None = None, look_at: Sequence[str] = ()
) -> "Runner":
    """Open a file.

    Args:
        path: A file of any backend, whoever wrote it.
        runtime: None takes the one that the file was made for.
        threads: Threads within an operator; None leaves it to the runtime.
        look_at: Names of quantized activations whose codes come behind the outputs.

    Raises:
        ExportError: Missing, of no known format, or refused; the runtime is not installed.
    """
    runner = (runtime or runtimes_for(path)[0]).open_runner(path, threads=threads, look_at=look_at)
    runner.open()
    return runner
