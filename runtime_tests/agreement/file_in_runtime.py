"""One file in one runtime: what runs it, what computes each of its layers, and the integer reference of its rules."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from export.onnx.verify_integer import EXACT_KERNELS, rebuild_program
from torch import Tensor, nn

from export.errors import ExportError
from export.onnx.kernels import open_optimized, report_kernels
from export.onnx.sessions import session_options
from export.program.program import ReferenceProgram
from export.reference.machine import IntegerReference
from export.reference.xnnpack import LiteRtReference
from export.tflite.stored_file import rebuild
from runtime_tests.agreement.contract import Contract, check_inputs
from runtime_tests.agreement.openvino_reference import fused_convolutions, openvino_outputs
from runtime_tests.agreement.watch import Watch
from runtime_tests.names import NAMES
from runtime_tests.runners import Runner, open_runner, run_batches
from runtime_tests.runners.openvino_runner import OpenVinoRunner

EXACT_RULE = frozenset({"QLinearConv", "QGemm", "QLinearMatMul", "CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED"})
"""Kernels that requantize by clip(rint(f32(sum + bias) * f32(f32(s_in * s_w) / s_out)) + zero point)."""


@dataclass(frozen=True, eq=False)
class FileInRuntime:
    """Holds a file opened in a runtime once per batch size, so that no memory is resized between runs.

    Attributes:
        contract: The file.
        runtime: Of RUNTIMES.
        batch_size: That of the larger batches.
        alone, together: The file, for single inputs and for batches.
        probe: The file with its codes behind its outputs; None where activations are float.
        reference: The integer reference by this runtime's rules, likewise.
        kernels: What computes each quantized activation on codes, by name.
        fused: Those that have no codes in this runtime unless somebody looks at them.
    """

    contract: Contract
    runtime: str
    batch_size: int
    alone: Runner
    together: Runner
    probe: Runner | None = None
    reference: IntegerReference | None = None
    kernels: Mapping[str, str] = field(default_factory=dict)
    fused: frozenset[str] = frozenset()

    def __str__(self) -> str:
        return f"{self.contract.path.name} in {NAMES[self.runtime]}"

    @property
    def unseen(self) -> bool:
        """Whether a look at the codes changes what the runtime computes."""
        return self.runtime == "openvino"

    @property
    def is_hybrid(self) -> bool:
        """Whether LiteRT quantizes float activations itself: such a file is approximate."""
        return self.contract.stored is not None and self.contract.stored.forms.hybrid

    def is_exact(self, name: str) -> bool:
        """Whether a quantized activation comes from a kernel whose rule the reference follows bit for bit."""
        kernel = self.kernels.get(name, "float")
        return kernel in EXACT_KERNELS if self.runtime == "onnxruntime" else kernel != "float"

    def outputs(self, inputs: Tensor) -> tuple[np.ndarray, np.ndarray]:
        """The first output, computed one input at a time and in batches."""
        return run_batches(self.alone, (inputs,), 1)[0], run_batches(self.together, (inputs,), self.batch_size)[0]

    def codes(self, inputs: Tensor, outputs: np.ndarray) -> dict[str, np.ndarray]:
        """uint8 codes of every quantized activation, PyTorch's order of axes.

        Args:
            inputs: For the network.
            outputs: What the file computes for them in batches.

        Raises:
            ExportError: It computes something else where its tensors are looked at.
        """
        assert self.probe is not None
        names = tuple(self.contract.metadata.activations or ())
        found = run_batches(self.probe, (inputs,), self.batch_size)
        if not self.unseen and not np.array_equal(found[0], outputs):
            raise ExportError(f"{self}: computes something else where its tensors are looked at")
        return dict(zip(names, found[-len(names) :], strict=True))

    def by_rule(self, inputs: Tensor, watch: Watch) -> np.ndarray:
        """What the runtime's rules give for the first output: fed its codes, or where a look changes them, without."""
        assert self.reference is not None
        fed = self.reference.outputs(inputs, on_codes=watch)
        if self.unseen:
            fed = openvino_outputs(self.reference, inputs, self.contract.metadata.activations or {}, self.fused)
        return fed[0].numpy()


def open_in_runtimes(
    contract: Contract, runtimes: list[str], model: nn.Module, inputs: Tensor, batch_size: int
) -> list[FileInRuntime]:
    """Open a file in each runtime; its program is rebuilt once.

    Args:
        contract: The file.
        runtimes: Of RUNTIMES, those that take it.
        model: The network that it was made from, in eval mode.
        inputs: A few, to trace it with.
        batch_size: Of the larger batches.

    Raises:
        ExportError: A runtime refuses the file, or it takes other inputs or batches.
    """
    plain = [_open(contract, runtime, inputs, batch_size) for runtime in runtimes]
    grids = contract.metadata.activations
    if grids is None:
        return plain
    reference, program, stored_kernels = _rebuild(contract, model, inputs)
    opened = []
    for file in plain:
        probe = open_runner(contract.path, runtime=file.runtime, threads=1, look_at=tuple(grids))
        kernels, fused = stored_kernels, frozenset[str]()
        if isinstance(file.alone, OpenVinoRunner):
            kernels, fused = _openvino_kernels(file.alone, program)
        elif contract.stored is None:
            kernels = _onnxruntime_kernels(contract, program)
        opened.append(replace(file, probe=probe, reference=reference, kernels=kernels, fused=fused))
    return opened


def _open(contract: Contract, runtime: str, inputs: Tensor, batch_size: int) -> FileInRuntime:
    """Open a file without a look at its codes, and see that it takes such inputs, alone and in batches."""
    path = contract.path
    alone, together = (open_runner(path, runtime=runtime, threads=1) for _ in range(2))
    check_inputs(alone, path, inputs)
    fixed = alone.inputs[0].shape[0]
    if fixed is not None:
        raise ExportError(f"{path}: takes batches of {fixed} only, not single inputs and others")
    return FileInRuntime(contract, runtime, batch_size, alone, together)


def _rebuild(
    contract: Contract, model: nn.Module, inputs: Tensor
) -> tuple[IntegerReference, ReferenceProgram, Mapping[str, str]]:
    """Build the integer reference of a file, once for all runtimes.

    Returns:
        By the rules of the runtime that the file was made for; the program that it runs; what the file's operators
        are by activation, where they are what computes it.
    """
    if contract.stored is not None:
        prepared, build = rebuild(contract.stored, model, (inputs,))
        return LiteRtReference(prepared.program), prepared.program, build.integer
    program = rebuild_program(model, (inputs,), contract.metadata)
    return IntegerReference(program), program, {}


def _onnxruntime_kernels(contract: Contract, program: ReferenceProgram) -> dict[str, str]:
    assert program.activations is not None
    options = session_options("enable_all", entries=contract.metadata.session_options)
    _, nodes = open_optimized(contract.path, options, contract.path)
    return {layer.name: layer.kernel for layer in report_kernels(program.activations, nodes)}


def _openvino_kernels(runner: OpenVinoRunner, program: ReferenceProgram) -> tuple[dict[str, str], frozenset[str]]:
    assert program.activations is not None
    names = program.activations.encodings
    primitives = runner.primitives()
    fused = fused_convolutions(primitives, names)
    kernels = {name: kind for kind, nodes in primitives for name in names if name in nodes}
    return {name: f"{kind} with Add" if name in fused else kind for name, kind in kernels.items()}, fused
