"""One file in one runtime, as `runtime_tests.runtimes` compares them: its runners, kernels and integer reference."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn

from export.errors import ExportError
from export.onnx.kernels import open_optimized, report_kernels
from export.onnx.sessions import session_options
from export.onnx.verify_integer import EXACT_KERNELS, TIE_DISTANCE, rebuild_program
from export.program.program import ReferenceProgram
from export.reference.machine import IntegerReference
from export.reference.onnxruntime import ONNXRUNTIME
from export.reference.xnnpack import XNNPACK
from export.tflite.stored_file import rebuild
from runtime_tests.agreement.contract import NAMES, Contract, check_inputs
from runtime_tests.agreement.openvino_reference import fused_convolutions, openvino_outputs
from runtime_tests.runners import Runner, open_runner, run_batches
from runtime_tests.runners.openvino_runner import OpenVinoRunner

EXACT_RULE = frozenset({"QLinearConv", "QGemm", "QLinearMatMul", "CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED"})
"""Kernels that requantize by clip(rint(f32(sum + bias) * f32(f32(s_in * s_w) / s_out)) + zero point)."""


@dataclass(frozen=True, eq=False)
class Column:
    """A file in a runtime, opened once per batch size, so that no memory is resized between runs.

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

    def by_rule(self, inputs: Tensor, watch: "Watch") -> np.ndarray:
        """What the runtime's rules give for the first output: fed its codes, or where a look changes them, without."""
        assert self.reference is not None
        fed = self.reference.outputs(inputs, on_codes=watch)
        if self.unseen:
            fed = openvino_outputs(self.reference, inputs, self.contract.metadata.activations or {}, self.fused)
        return fed[0].numpy()


@dataclass
class Watch:
    """Hands a reference the codes of a runtime, and counts per input where it would have computed others.

    Attributes:
        found: The codes by name.
        inputs: How many.
        differing: A count per input by name, in the order of execution.
        steps: The largest difference in codes, by the names where there is one.
        ties: Those names where every difference is of one step, from a value in the middle between two.
    """

    found: Mapping[str, np.ndarray]
    inputs: int
    differing: dict[str, np.ndarray] = field(default_factory=dict)
    steps: dict[str, int] = field(default_factory=dict)
    ties: set[str] = field(default_factory=set)

    def __call__(self, name: str, codes: Tensor, steps: Callable[[], Tensor]) -> Tensor:
        theirs = torch.from_numpy(self.found[name])
        if theirs.shape != codes.shape:
            raise ExportError(f"{name}: a runtime has codes of shape {tuple(theirs.shape)}, not {tuple(codes.shape)}")
        self.differing[name] = differing_per_input(self.found[name], codes.numpy(), self.inputs)
        if self.differing[name].any():
            off = (theirs.int() - codes.int()).abs()
            rounded = steps()[off > 0]
            self.steps[name] = int(off.max())
            if self.steps[name] == 1 and float((rounded - rounded.floor() - 0.5).abs().max()) <= TIE_DISTANCE:
                self.ties.add(name)
        return theirs


def differing_per_input(first: np.ndarray, second: np.ndarray, inputs: int) -> np.ndarray:
    """How many codes differ, per input: `(inputs,)`.

    The batch comes first, alone or with what was joined to it (batch x heads), or else on the first axis of that size.
    What has no batch counts for every input.
    """
    different = first != second
    if different.ndim and different.shape[0] % inputs and inputs in different.shape:
        different = np.moveaxis(different, different.shape.index(inputs), 0)
    if different.ndim and different.shape[0] % inputs == 0:
        return np.asarray(np.count_nonzero(different.reshape(inputs, -1), axis=1))
    return np.full(inputs, np.count_nonzero(different))


def open_columns(
    contract: Contract, runtimes: list[str], model: nn.Module, inputs: Tensor, batch_size: int
) -> list[Column]:
    """A file in each runtime.

    Args:
        contract: The file.
        runtimes: Of RUNTIMES, those that take it.
        model: The network that it was made from, in eval mode.
        inputs: A few, to trace it with.
        batch_size: Of the larger batches.

    Raises:
        ExportError: A runtime refuses the file, or it takes other inputs or batches.
    """
    columns = []
    path, grids = contract.path, contract.metadata.activations
    for runtime in runtimes:
        alone, together = (open_runner(path, runtime=runtime, threads=1) for _ in range(2))
        check_inputs(alone, path, inputs)
        if alone.inputs[0].shape[0] is not None:
            raise ExportError(f"{path}: takes batches of {alone.inputs[0].shape[0]} only, not single inputs and others")
        plain = Column(contract, runtime, batch_size, alone, together)
        if grids is None:
            columns.append(plain)
            continue
        probe = open_runner(path, runtime=runtime, threads=1, look_at=tuple(grids))
        kernels: Mapping[str, str]
        fused = frozenset[str]()
        reference: IntegerReference
        if contract.stored is not None:
            prepared, build = rebuild(contract.stored, model, (inputs,))
            reference, kernels = IntegerReference(prepared.program, XNNPACK), build.integer
        else:
            program = rebuild_program(model, (inputs,), contract.metadata)
            reference = IntegerReference(program, ONNXRUNTIME)
            if isinstance(alone, OpenVinoRunner):
                kernels, fused = _openvino_kernels(alone, program)
            else:
                kernels = _onnxruntime_kernels(contract, program)
        columns.append(Column(contract, runtime, batch_size, alone, together, probe, reference, kernels, fused))
    return columns


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
