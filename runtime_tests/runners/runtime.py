"""A runtime, as this package compares them, opens files, says what computes each layer in them, and by which rules."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from export.backend import Backend, StoredFile

if TYPE_CHECKING:
    from torch import Tensor

    from codeq.activations.encoding import ActivationEncoding
    from export.program.program import ReferenceProgram
    from export.reference.machine import IntegerReference
    from export.runner import Runner


@dataclass(frozen=True)
class Computed:
    """Says what computes a file's layers in a runtime.

    Attributes:
        kernels: The runtime's operator by the name of the quantized activation.
        fused: Activations that have no codes in this runtime unless somebody looks at them.
    """

    kernels: Mapping[str, str] = field(default_factory=dict)
    fused: frozenset[str] = frozenset()


class Runtime(Protocol):
    """This protocol is a runtime that opens files of one backend. Objects are light: what they open imports the
    runtime.

    Attributes:
        name: In flags and JSON.
        title: In texts.
        package: As it is imported.
        backend: Whose files it reads.
        unseen: A look at a file's codes changes what the runtime computes.
    """

    name: str
    title: str
    package: str
    backend: Backend
    unseen: bool

    def open_runner(self, path: Path, *, threads: int | None = None, look_at: Sequence[str] = ()) -> "Runner":
        """Look at a file; arguments and errors are those of `Backend.open_runner`."""

    def computed(self, stored: StoredFile, runner: "Runner", program: "ReferenceProgram") -> Computed:
        """Say what computes the layers of a file that was opened."""

    def is_exact(self, kernel: str) -> bool:
        """Say whether the integer reference follows an operator bit for bit."""

    def outputs_by_rule(
        self,
        reference: "IntegerReference",
        inputs: "tuple[Tensor, ...]",
        grids: Mapping[str, "ActivationEncoding"],
        fused: frozenset[str],
    ) -> "tuple[Tensor, ...]":
        """Compute what its rules give, without a look at its codes; for runtimes that are `unseen`."""


class NativeRuntime:
    """See `Runtime`: the one that a backend's files are made for."""

    unseen = False

    def __init__(self, backend: Backend) -> None:
        self.backend = backend
        self.name = backend.runtime.lower()
        self.title = backend.runtime
        self.package = backend.package

    def open_runner(self, path: Path, *, threads: int | None = None, look_at: Sequence[str] = ()) -> "Runner":
        return self.backend.open_runner(path, threads=threads, look_at=look_at)

    def computed(self, stored: StoredFile, runner: "Runner", program: "ReferenceProgram") -> Computed:
        return Computed(self.backend.kernels(stored, program))

    def is_exact(self, kernel: str) -> bool:
        return self.backend.is_exact(kernel)

    def outputs_by_rule(
        self,
        reference: "IntegerReference",
        inputs: "tuple[Tensor, ...]",
        grids: Mapping[str, "ActivationEncoding"],
        fused: frozenset[str],
    ) -> "tuple[Tensor, ...]":
        return reference.outputs(*inputs)


def is_installed(runtime: Runtime) -> bool:
    """Say whether a runtime can be imported."""
    return find_spec(runtime.package) is not None
