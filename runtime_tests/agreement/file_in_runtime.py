"""This module brings a file and a runtime together: what runs it, what computes each of its layers, and the integer
reference of its rules.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from torch import Tensor, nn

from codeq.graph.inputs import Inputs
from export.backend import StoredFile
from export.errors import ExportError
from export.program.run import take_inputs
from export.reference.machine import IntegerReference
from export.runner import Runner, check_inputs, run_batches
from export.stored_program import stored_program
from runtime_tests.agreement.watch import Watch
from runtime_tests.runners.registry import open_runner
from runtime_tests.runners.runtime import Computed, Runtime

Tensors = tuple[Tensor, ...]
"""Inputs in the order of the network's arguments, batch first."""
EXACT_RULE = frozenset({"QLinearConv", "QGemm", "QLinearMatMul", "CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED"})
"""Kernels that requantize by clip(rint(f32(sum + bias) * f32(f32(s_in * s_w) / s_out)) + zero point)."""


@dataclass(frozen=True, eq=False)
class FileInRuntime:
    """Holds a file opened in a runtime once per batch size, so that no memory is resized between runs.

    Attributes:
        stored: The file.
        runtime: What runs it.
        batch_size: That of the larger batches.
        alone, together: The file, for single inputs and for batches.
        probe: The file with its codes behind its outputs; None where activations are float.
        reference: The integer reference by this runtime's rules, likewise.
        computed: What computes its layers.
    """

    stored: StoredFile
    runtime: Runtime
    batch_size: int
    alone: Runner
    together: Runner
    probe: Runner | None = None
    reference: IntegerReference | None = None
    computed: Computed = field(default_factory=Computed)

    def __str__(self) -> str:
        return f"{self.stored.path.name} in {self.runtime.title}"

    def kernel(self, name: str) -> str:
        """Give the runtime's operator that computes a quantized activation; "float" where that computes on floats."""
        return self.computed.kernels.get(name, "float")

    def is_exact(self, name: str) -> bool:
        """Say whether a quantized activation comes from a kernel whose rule the reference follows bit for bit."""
        return self.runtime.is_exact(self.kernel(name))

    def outputs(self, inputs: Tensors) -> tuple[np.ndarray, np.ndarray]:
        """Compute the first output, one input at a time and in batches."""
        return run_batches(self.alone, inputs, 1)[0], run_batches(self.together, inputs, self.batch_size)[0]

    def codes(self, inputs: Tensors, outputs: np.ndarray) -> dict[str, np.ndarray]:
        """uint8 codes of every quantized activation, PyTorch's order of axes.

        Args:
            inputs: For the network.
            outputs: What the file computes for them in batches.

        Raises:
            ExportError: It computes something else where its tensors are looked at.
        """
        assert self.probe is not None
        names = tuple(self.stored.metadata.activations or ())
        found = run_batches(self.probe, inputs, self.batch_size)
        if not self.runtime.unseen and not np.array_equal(found[0], outputs):
            raise ExportError(f"{self}: computes something else where its tensors are looked at")
        return dict(zip(names, found[-len(names) :], strict=True))

    def by_rule(self, inputs: Tensors, watch: Watch) -> np.ndarray:
        """Say what the runtime's rules give for the first output: fed its codes, or where a look changes them,
        without."""
        assert self.reference is not None
        fed = self.reference.outputs(*inputs, on_codes=watch)
        if self.runtime.unseen:
            grids = self.stored.metadata.activations or {}
            fed = self.runtime.outputs_by_rule(self.reference, inputs, grids, self.computed.fused)
        return fed[0].numpy()


def open_in_runtimes(
    stored: StoredFile, runtimes: Sequence[Runtime], model: nn.Module, inputs: Inputs, batch_size: int
) -> list[FileInRuntime]:
    """Open a file in each runtime; its program is rebuilt once.

    Args:
        stored: The file, as its backend reads it.
        runtimes: Those that take it.
        model: The network that it was made from, in eval mode.
        inputs: A few, to trace it with.
        batch_size: Of the larger batches.

    Raises:
        ExportError: A runtime refuses the file, or it takes other inputs or batches.
    """
    tensors, names = take_inputs(model, inputs)
    plain = [_open(stored, runtime, tensors, names, batch_size) for runtime in runtimes]
    grids = stored.metadata.activations
    if grids is None or not plain:
        return plain
    program = stored_program(stored, model, inputs)
    assert program is not None
    reference = runtimes[0].backend.reference(program)
    opened = []
    for file in plain:
        probe = open_runner(stored.path, runtime=file.runtime, threads=1, look_at=tuple(grids))
        computed = file.runtime.computed(stored, file.alone, program)
        opened.append(replace(file, probe=probe, reference=reference, computed=computed))
    return opened


def _open(
    stored: StoredFile, runtime: Runtime, inputs: Tensors, names: tuple[str, ...], batch_size: int
) -> FileInRuntime:
    """Open a file without a look at its codes, and see that it takes such inputs, alone and in batches."""
    path = stored.path
    alone, together = (open_runner(path, runtime=runtime, threads=1) for _ in range(2))
    check_inputs(alone, path, inputs, names)
    fixed = alone.inputs[0].shape[0]
    if fixed is not None:
        raise ExportError(f"{path}: takes batches of {fixed} only, not single inputs and others")
    return FileInRuntime(stored, runtime, batch_size, alone, together)
