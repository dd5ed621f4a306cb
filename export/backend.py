"""A backend is a file format with its runtime; `BACKENDS` has one entry for each.

A new one is a folder with an object of this protocol, and an entry here: exports, parity, benchmarks, inspection and
reports reach it through this file alone.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from codeq.toolkit.cli import Reportable
from codeq.toolkit.files import check_ordinary
from export.errors import ExportError
from export.input_slot import InputSlot
from export.options import ExportRequest

if TYPE_CHECKING:
    from torch import nn

    from export.metadata import FileMetadata
    from export.parity.held import Held
    from export.parity.verdict import Verdict
    from export.program.prepare import Prepared
    from export.program.program import ReferenceProgram
    from export.reference.machine import IntegerReference
    from export.report import Details
    from export.runner import Runner

OnProgress = Callable[[float, str], None]
"""Called with the share done, 0 to 1, and what was just finished."""


@dataclass(frozen=True)
class StoredWeight:
    """Says how a file holds one quantized weight.

    `storage` is its encoding, `reason` why; `lowering` names the operators that make it float, or read it. `size_bytes`
    are all that the file holds for it alone.
    """

    storage: str
    reason: str
    size_bytes: int
    lowering: str


@dataclass(frozen=True, eq=False)
class Written:
    """Says what a backend has to say of a file that it has just written.

    Attributes:
        weights: By the weight's name; those that the network does not use are missing.
        details: Its own section of the report, made once the file's size is known.
        companions: Names of files beside it.
        stale: Names of files that an older file of its name may have left beside it, and that are not its own.
        notes: What the user should know.
    """

    weights: Mapping[str, StoredWeight]
    details: "Callable[[int], Details]"
    companions: tuple[str, ...] = ()
    stale: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


class OpeningCode(NamedTuple):
    """Holds Python that opens a file.

    Attributes:
        package: What is to be installed.
        imports: Lines.
        code: Defines `run(inputs)`, which takes arrays in PyTorch's order of axes and gives such ones.
        inputs: What `run` takes.
    """

    package: str
    imports: tuple[str, ...]
    code: str
    inputs: tuple[InputSlot, ...]


class StoredFile(Protocol):
    """This protocol is a file of ours as it was read; a backend's own has more."""

    @property
    def path(self) -> Path:
        """Say where it is."""

    @property
    def metadata(self) -> "FileMetadata":
        """Say what it says about itself."""

    @property
    def fixed_batch(self) -> int | None:
        """Return the one batch size that it takes; None where it is open."""

    @property
    def cpu(self) -> str | None:
        """Name the one kind of processor that it is meant for, as `Backend.reference` does; None where it is not."""

    @property
    def approximate(self) -> bool:
        """Say whether the runtime quantizes floats itself, so that its outputs are only held to be near."""


class Backend(Protocol):
    """This protocol is a file format and the runtime that it is made for. Objects are light: heavy libraries are
    imported by methods.

    Attributes:
        name: Its key in `BACKENDS`, its folder in export/ and its command, `export.NAME`.
        suffix: Of its files, with the dot.
        file: What its file is called in texts, e.g. "an ONNX file".
        runtime: What its runtime is called in texts; in lower case, in flags and JSON.
        package: The runtime's package, as it is imported.
        request: What it can be asked for.
        variants: Options of such a request by the name of a variant: the kinds of file that `runtime_tests.zoo` makes
            of every network.
    """

    name: str
    suffix: str
    file: str
    runtime: str
    package: str
    request: type[ExportRequest]
    variants: Mapping[str, Mapping[str, Any]]

    def require(self) -> None:
        """See that what it needs is installed.

        Raises:
            ExportError: Something is missing; the message says how to get it.
        """

    def recognizes(self, path: Path) -> bool:
        """Say whether a file is of its format, by its first bytes or its name."""

    def write(self, prepared: "Prepared", request: Any, staged: Path) -> Written:
        """Lower a program and write it.

        Args:
            prepared: The program; it may be changed.
            request: Of its own kind.
            staged: Where to write; companions go beside it.

        Raises:
            ExportError: It cannot be lowered, or an option does not fit it.
        """

    def read(self, path: Path) -> StoredFile:
        """Read a file of ours.

        Raises:
            ExportError: Missing, damaged, or not one of ours.
        """

    def incomparable(self, stored: Any) -> str:
        """Say why a file cannot be written anew; empty where it can."""

    def recorded_options(self, stored: Any) -> Mapping[str, Any]:
        """Give the options of its request that a file tells where its metadata has no `options`, as in older files."""

    def content(self, stored: Any) -> Any:
        """Give all that a file holds, for `export.parity.differences`."""

    def record_mismatch(self, path: Path, failure: str) -> None:
        """Write into the metadata of a file, in place, what does not hold: the user wants it all the same.

        Args:
            path: A file that `write` has written.
            failure: One line, for `export.metadata.with_mismatch`.
        """

    def check(
        self,
        stored: Any,
        model: "nn.Module",
        held: "Held",
        program: "ReferenceProgram | None",
        on_progress: OnProgress,
    ) -> "Verdict":
        """Hold a file against its network.

        Args:
            stored: From `read`.
            model: The network, in eval mode.
            held: Inputs, and the network's outputs for them.
            program: The reference program with the file's grids; None where activations are float.
            on_progress: See there.

        Raises:
            ExportError: The runtime cannot run the file, or it lacks what it should hold.
        """

    def reference(self, program: "ReferenceProgram", cpu: str | None = None) -> "IntegerReference":
        """Give the integer reference of a quantized program by its runtime's rules.

        Args:
            program: With its grids.
            cpu: The kind of processor, as `export.reference.processors` names it; None is this one.
        """

    def kernels(self, stored: Any, program: "ReferenceProgram") -> Mapping[str, str]:
        """Say which operator of the runtime computes each quantized layer, by the layer's name.

        Args:
            stored: From `read`.
            program: Rebuilt with the file's grids.
        """

    def is_exact(self, kernel: str) -> bool:
        """Say whether the integer reference follows an operator bit for bit."""

    def open_runner(self, path: Path, *, threads: int | None = None, look_at: Sequence[str] = ()) -> "Runner":
        """Look at a file for its runtime; the caller opens it.

        Args:
            path: A file of its format, whoever wrote it.
            threads: Threads within an operator; None leaves it to the runtime.
            look_at: Names of quantized activations whose codes come behind the outputs.

        Raises:
            ExportError: Missing, or of another format.
        """

    def try_out(self, path: Path, run: "Callable[[Any], object]", *, threads: int | None = None) -> None:
        """Run a file in a process of its own, where its runtime may crash over it; from then on this process runs it.

        For what is timed; nothing to do where the runtime refuses damaged files, or this process has written the file.

        Args:
            path: A file of its format, whoever wrote it.
            run: Called with the file, opened: does with it what is going to be timed.
            threads: As for `open_runner`.

        Raises:
            ExportError: The runtime dies over it, or refuses it.
        """

    def trust(self, path: Path) -> None:
        """Let this process run a file itself from now on: it was tried out, or nothing is lost with this process."""

    def preload(self) -> None:
        """Import what its runtime needs: its own memory is not a file's."""

    def files(self, path: Path) -> list[Path]:
        """List a file and all that belongs to it beside it."""

    def inspect(self, path: Path) -> Reportable:
        """Say what a file of ours holds, its codes held to their hashes.

        Raises:
            ExportError: Missing, not one of ours, or damaged.
        """

    def opening_code(self, stored: Any) -> OpeningCode:
        """Write the Python that opens a file and runs it, with its runtime alone.

        Args:
            stored: From `read`.
        """

    def materialize(self, source: Path, target: Path, *, force: bool) -> Reportable:
        """Write the equivalent file with every weight dense.

        Raises:
            ExportError: The source is missing, not one of ours, damaged, or has no other form.
            OutputError: The target exists (without `force`), or cannot be written.
        """


BACKENDS: dict[str, "str | Backend"] = {
    "onnx": "export.onnx.backend:ONNX",
    "tflite": "export.tflite.backend:TFLITE",
}
"""One entry per backend, in the order in which they are asked whether a file is theirs: the object, or where it is."""


def get_backend(name: str) -> Backend:
    """Give the backend of a name.

    Raises:
        ExportError: There is none.
    """
    if name not in BACKENDS:
        raise ExportError(f"backend {name!r}, expected one of {', '.join(BACKENDS)}")
    entry = BACKENDS[name]
    if isinstance(entry, str):
        module, _, attribute = entry.partition(":")
        found: Backend = getattr(import_module(module), attribute)
        return found
    return entry


def backend_of(path: Path) -> Backend:
    """Give the backend that a file is of; the first one where none knows it, whose reader says what is wrong."""
    backends = [get_backend(name) for name in BACKENDS]
    check_ordinary(path, "an exported file", ExportError)
    return next((backend for backend in backends if backend.recognizes(path)), backends[0])


def file_bytes(path: Path) -> int:
    """Give the size of a file with all that belongs to it beside it.

    Raises:
        ExportError: Missing, or of no known format.
    """
    return sum(file.stat().st_size for file in backend_of(path).files(path))
