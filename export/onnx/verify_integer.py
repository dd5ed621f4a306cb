"""The parity contract of a file with quantized activations: onnxruntime against the integer reference.

(I) layers    Every quantized tensor that onnxruntime computes, fed what onnxruntime fed it, equals the integer
              reference: no element differs where the kernel computes in integers. Where onnxruntime computes between
              quantizers in float (without its optimizations always), an element may be one step off if the value that
              the reference rounds lies within a hundredth of a step of the middle between two.
    outputs   Fed the same codes, every float output is within 1e-5 of its largest magnitude. End to end, outputs equal
              the integer reference bit for bit where every kernel follows its rule exactly; else the argmax (axis 1) is
              the reference's on every input, where outputs closer than 1 % of the largest magnitude count as equal.
(P) program   Before activations are quantized, the reference program computes what the network does, within 1e-5 of
              the output's largest magnitude.

What fake quantization in float and the network without quantized activations compute is reported, and decides nothing.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from torch import Tensor, nn

from codeq.graph.inputs import Inputs
from codeq.graph.nodes import is_constant
from codeq.quantizer.attach import encode
from codeq.toolkit.table import render_table
from export.errors import ExportError
from export.metadata import FileMetadata, read_metadata
from export.onnx.kernels import LayerKernel, open_optimized, report_kernels
from export.onnx.sessions import EXTERNAL_FOLDER, LEVELS, load_model, session_options
from export.program.fold_batch_norm import fold_batch_norm
from export.program.program import ReferenceProgram, build_reference_program
from export.program.quantize_activations import COMPARED_INPUTS, quantize_program
from export.program.run import batches, in_batches, run_onnxruntime, take_inputs
from export.reference.machine import IntegerReference
from export.reference.onnxruntime import ONNXRUNTIME

EXACT_KERNELS = frozenset(
    {
        "QLinearConv",
        "QGemm",
        "QLinearMatMul",
        "QLinearAdd",
        "QLinearMul",
        "QLinearGlobalAveragePool",
        "QuantizeLinear",
    }
)
"""Kernels whose rule export/reference/onnxruntime.py follows bit for bit."""
RELATIVE_TOLERANCE = 1e-5
"""Of the largest output magnitude, for float32 sums in another order; as in the contract for float activations."""
TIE_DISTANCE = 1e-2
"""In steps: float32 sums in another order stay well below it."""
NEAR_TIE = 1e-2
"""Of the largest output magnitude: outputs that one step of one layer can exchange."""
REFERENCE_BATCH_SIZE = 12
"""A multiple of the batch sizes of the contract."""


@dataclass(frozen=True)
class LayerCheck:
    """One quantized tensor at one level, over all inputs and batch sizes.

    `max_step` is in codes. `tie_distance` is the largest distance of a value that was rounded to another code from the
    middle between two, in steps.
    """

    name: str
    level: str
    kernel: str
    elements: int
    differing: int
    max_step: int
    tie_distance: float
    ok: bool


@dataclass(frozen=True)
class EndToEndCheck:
    """One output at one level and batch size against the integer reference, over all inputs.

    `exact_kernels` says that the reference follows every kernel bit for bit. `fed_error` is the largest difference
    where the reference was fed onnxruntime's codes; `fed_tolerance` its limit.
    """

    output: str
    level: str
    batch_size: int
    exact_kernels: bool
    differing: int
    max_abs_error: float
    fed_error: float
    fed_tolerance: float
    argmax_differences: int
    ok: bool
    reason: str = ""


@dataclass(frozen=True)
class ReportedComparison:
    """Another way of computing the same network, against the integer reference. Decides nothing.

    `argmax_differences` counts inputs, those of the output with most.
    """

    name: str
    max_abs_error: float
    argmax_differences: int


@dataclass(frozen=True)
class IntegerVerdict:
    """The contract's answer. `program_error` and `program_tolerance` are (P)."""

    layers: tuple[LayerCheck, ...]
    outputs: tuple[EndToEndCheck, ...]
    kernels: tuple[LayerKernel, ...]
    program_error: float
    program_tolerance: float
    reported: tuple[ReportedComparison, ...]

    @property
    def ok(self) -> bool:
        return not self.first_failure

    @property
    def first_failure(self) -> str:
        """One line, empty where the contract holds."""
        if not self.program_error <= self.program_tolerance:
            error, limit = self.program_error, self.program_tolerance
            return f"the reference program is off the network by {error:.3g}, above {limit:.3g}"
        for layer in self.layers:
            if not layer.ok:
                return (
                    f"{layer.name} at {layer.level} ({layer.kernel}): {layer.differing} of {layer.elements} codes "
                    f"differ from the integer reference, by up to {layer.max_step}"
                )
        for output in self.outputs:
            if not output.ok:
                return f"{output.output} at {output.level}, batch {output.batch_size}: {output.reason}"
        return ""

    def differing(self, *, integer_kernels: bool) -> int:
        """Codes that differ from the reference, in layers with (or without) an integer kernel."""
        return sum(layer.differing for layer in self.layers if (layer.kernel in EXACT_KERNELS) == integer_kernels)

    def elements(self, *, integer_kernels: bool) -> int:
        """Codes compared, likewise."""
        return sum(layer.elements for layer in self.layers if (layer.kernel in EXACT_KERNELS) == integer_kernels)

    def to_dict(self) -> dict[str, Any]:
        """The verdict for machines; an infinite error is written as null."""
        values = asdict(self)
        for row in values["outputs"]:
            row.update({key: None for key, value in row.items() if value == float("inf")})
        return values | {"ok": self.ok}

    def __str__(self) -> str:
        by_name: dict[str, dict[str, LayerCheck]] = {}
        for check in self.layers:
            by_name.setdefault(check.name, {})[check.level] = check
        rows = [
            (
                name,
                checks["enable_all"].kernel,
                f"{checks['enable_all'].elements:,}",
                *(str(checks[level].differing) for level in LEVELS),
                "ok" if all(check.ok for check in checks.values()) else "FAILED",
            )
            for name, checks in by_name.items()
        ]
        header = ("codes differing in", "kernel", "codes", *LEVELS, "verdict")
        lines = [render_table(header, rows)]
        for end in self.outputs:
            lines.append(
                f"{end.output} at {end.level}, batch {end.batch_size}: {end.differing} elements and "
                f"{end.argmax_differences} argmax differ: {'ok' if end.ok else 'FAILED'}"
            )
        for item in self.reported:
            error, differs = item.max_abs_error, item.argmax_differences
            lines.append(f"reported  {item.name}: max_abs_error {error:.1e}, argmax differs {differs}")
        return "\n".join(lines)


def check_integer(
    source: Path,
    program: ReferenceProgram,
    inputs: tuple[Tensor, ...],
    expected: Sequence[np.ndarray],
    batch_sizes: Sequence[int],
    *,
    on_progress: Callable[[str], None] = lambda detail: None,
) -> IntegerVerdict:
    """Hold a file against the integer reference.

    Args:
        source: The file.
        program: The program that it was made from, or one rebuilt with the file's grids.
        inputs: Held inputs; a whole number of each batch size.
        expected: The network's own outputs for them, activations in float.
        batch_sizes: To be judged at.
        on_progress: Called after each level and batch size.

    Raises:
        ExportError: The file cannot be opened or lacks a quantized tensor.
    """
    activations = program.activations
    assert activations is not None
    # A program of a fixed batch size takes no other.
    chunk = batch_sizes[0] if len(batch_sizes) == 1 else REFERENCE_BATCH_SIZE
    stackable = _batch_comes_first(program)
    integer = IntegerReference(program, ONNXRUNTIME)
    reference = in_batches(integer.outputs, inputs, chunk)
    fake = in_batches(program.run, inputs, chunk)
    proto = load_model(source)
    outputs = [output.name for output in proto.graph.output]
    probe = with_codes(proto, [f"{name}_quantized" for name in activations.encodings], source)
    entries = read_metadata(proto, source).session_options
    comparison = _LayerComparison(integer)
    checks: list[LayerCheck] = []
    ends: list[EndToEndCheck] = []
    kernels: tuple[LayerKernel, ...] = ()
    for level in LEVELS:
        probe_entries = entries | {EXTERNAL_FOLDER: str(source.parent)}
        session, nodes = open_optimized(source, session_options(level, entries=entries), source)
        probing, probe_nodes = open_optimized(probe, session_options(level, entries=probe_entries), source)
        # Where the optimizer makes the same of both, the file has been run when the probe has.
        session = None if nodes == probe_nodes else session
        kernels = report_kernels(activations, nodes)
        exact = all(kernel.kernel in EXACT_KERNELS for kernel in kernels)
        counts: dict[str, Count] = {}
        for size in batch_sizes:
            found, fed_errors = comparison.run(probing, inputs, size, chunk if stackable else size, counts)
            if session is not None:
                found = run_onnxruntime(session, inputs, size)
            for name, ours, theirs, fed in zip(outputs, reference, found, fed_errors, strict=True):
                ends.append(_compare_output(name, level, size, exact, ours, theirs, fed))
            on_progress(f"{level}, batch {size}")
        made_by = {layer.name: nodes.get(layer.name, "none") for layer in activations.layers}
        made_by |= dict.fromkeys(_input_names(proto.graph), "QuantizeLinear")
        checks += [_judge(name, level, made_by.get(name, "float"), count) for name, count in counts.items()]
    reported = [
        _report("fake quantization in float", reference, fake),
        _report("the network with float32 activations", reference, expected),
    ]
    error, tolerance = compare_program(activations.float_outputs, expected)
    return IntegerVerdict(tuple(checks), tuple(ends), kernels, error, tolerance, tuple(reported))


def _batch_comes_first(program: ReferenceProgram) -> bool:
    """Whether the quantized tensors of several batches can be put together along their first axis."""
    nodes = list(program.exported.graph.nodes)
    batch = next(str(n.meta["val"].shape[0]) for n in nodes if n.op == "placeholder" and not is_constant(n))
    values = [node.meta["val"] for node in nodes if node.target is torch.ops.codeq.quantize.default]
    return all(value.ndim > 0 and str(value.shape[0]) == batch for value in values)


def compare_program(found: Sequence[np.ndarray], expected: Sequence[np.ndarray]) -> tuple[float, float]:
    """(P): the largest difference of any output, and what float32 sums in another order may make of it."""
    error = max(_largest_difference(ours[: len(theirs)], theirs) for ours, theirs in zip(expected, found, strict=True))
    largest = max(float(np.abs(ours.astype(np.float64)).max(initial=0)) for ours in expected)
    return error, RELATIVE_TOLERANCE * largest


def rebuild_program(
    model: nn.Module, inputs: Inputs, metadata: FileMetadata, *, fixed_batch: int | None = None
) -> ReferenceProgram:
    """The program of a network with the grids of a file; inputs as for `check_parity`.

    Raises:
        ExportError: The network cannot be traced, or the file lacks a grid.
    """
    grids = metadata.activations
    assert grids is not None
    tensors, names = take_inputs(model, inputs)
    example = tuple(tensor[: fixed_batch or 2] for tensor in tensors)
    program = build_reference_program(model, example, encode(model), names=names, dynamic_batch=fixed_batch is None)
    fold_batch_norm(program)
    compared = tuple(tensor[: fixed_batch or COMPARED_INPUTS] for tensor in tensors)
    quantize_program(program, compared, lambda plan: grids, exclude=metadata.activations_except)
    return program


def with_codes(proto: onnx.ModelProto, names: Sequence[str], source: Path) -> bytes:
    """The file with its quantized tensors as further outputs."""
    made = {output for node in proto.graph.node for output in node.output}
    missing = [name for name in names if name not in made]
    if missing:
        raise ExportError(f"{source}: has no tensor {missing[0]!r}; was it changed after the export?")
    probe = onnx.ModelProto()
    probe.CopyFrom(proto)
    probe.graph.output.extend(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.UINT8, None) for name in names)
    return bytes(probe.SerializeToString())


@dataclass
class Count:
    """Codes compared and found different; see `LayerCheck`."""

    elements: int = 0
    differing: int = 0
    max_step: int = 0
    tie_distance: float = 0.0

    def add(self, other: "Count") -> None:
        self.elements += other.elements
        self.differing += other.differing
        self.max_step = max(self.max_step, other.max_step)
        self.tie_distance = max(self.tie_distance, other.tie_distance)


@dataclass
class _LayerComparison:
    """Runs the probed file, and the reference on what onnxruntime fed each layer.

    Levels and batch sizes mostly give the same codes; the reference then has the same to say, and is not run again.
    """

    integer: IntegerReference
    answers: dict[tuple[int, bytes], tuple[dict[str, Count], list[float]]] = field(default_factory=dict)

    def run(
        self, session: Any, inputs: tuple[Tensor, ...], size: int, chunk: int, counts: dict[str, Count]
    ) -> tuple[list[np.ndarray], list[float]]:
        """Add what was found at one level and batch size to `counts`; `chunk` inputs are judged at a time.

        Returns:
            The outputs that are no codes, for all inputs; the largest difference of each from the reference's that was
            fed the same codes.
        """
        names = [output.name for output in session.get_outputs()]
        kept: list[list[np.ndarray]] = []
        errors: list[list[float]] = []
        for index, part in enumerate(batches(inputs, chunk)):
            found = dict(zip(names, run_onnxruntime(session, part, size), strict=True))
            digest = hashlib.blake2b()
            for values in found.values():
                digest.update(values.tobytes())
            key = (index, digest.digest())
            if key not in self.answers:
                answer: dict[str, Count] = {}
                computed = self.integer.outputs(*part, on_codes=Substitute(found, answer))
                # Codes come behind the outputs.
                differences = [
                    _largest_difference(ours.numpy(), found[name]) for name, ours in zip(names, computed, strict=False)
                ]
                self.answers[key] = answer, differences
            checked, differences = self.answers[key]
            for name, count in checked.items():
                counts.setdefault(name, Count()).add(count)
            kept.append([found[name] for name in names[: len(differences)]])
            errors.append(differences)
        return [np.concatenate(parts) for parts in zip(*kept, strict=True)], np.max(errors, axis=0).tolist()


@dataclass
class Substitute:
    """Counts where the reference's codes differ from a runtime's, and hands on the latter.

    `found` holds uint8 codes by the tensor's name and `_quantized`.
    """

    found: Mapping[str, np.ndarray]
    counts: dict[str, Count]

    def __call__(self, name: str, codes: Tensor, steps: Callable[[], Tensor]) -> Tensor:
        theirs = torch.from_numpy(self.found[f"{name}_quantized"])
        if theirs.shape != codes.shape:
            self.counts[name] = Count(codes.numel(), codes.numel(), 255, 0.5)
            return codes
        self.counts[name] = Count(codes.numel())
        if not torch.equal(theirs, codes):
            off = (theirs.int() - codes.int()).abs()
            rounded = steps()[off > 0]
            distance = float((rounded - rounded.floor() - 0.5).abs().max())
            self.counts[name] = Count(codes.numel(), int(off.count_nonzero()), int(off.max()), distance)
        return theirs


def _input_names(graph: onnx.GraphProto) -> list[str]:
    """What the plan calls the file's inputs: they are quantized as they come, by a kernel that is exact."""
    return [item.name for item in graph.input]


def _judge(name: str, level: str, kernel: str, count: Count) -> LayerCheck:
    exact = kernel in EXACT_KERNELS
    within = count.max_step <= 1 and count.tie_distance <= TIE_DISTANCE
    ok = not count.differing if exact else within
    return LayerCheck(name, level, kernel, count.elements, count.differing, count.max_step, count.tie_distance, ok)


def _largest_difference(expected: np.ndarray, found: np.ndarray) -> float:
    """Infinite where the two cannot be compared."""
    if expected.shape != found.shape or not (np.isfinite(expected).all() and np.isfinite(found).all()):
        return float("inf")
    return float(np.abs(expected.astype(np.float64) - found.astype(np.float64)).max(initial=0))


def _compare_output(
    name: str, level: str, batch_size: int, exact: bool, expected: np.ndarray, found: np.ndarray, fed_error: float
) -> EndToEndCheck:
    largest = float(np.abs(expected.astype(np.float64)).max(initial=0))
    tolerance = RELATIVE_TOLERANCE * largest
    error = _largest_difference(expected, found)
    differing = expected.size if expected.shape != found.shape else int(np.count_nonzero(found != expected))
    differences, reason = 0, ""
    if found.shape != expected.shape or found.dtype != expected.dtype:
        reason = f"is {found.dtype} {found.shape}, expected {expected.dtype} {expected.shape}"
    elif not np.isfinite(error):
        reason = "NaN or infinite values"
    elif fed_error > tolerance:
        reason = f"fed the same codes, it is off the integer reference by {fed_error:.3g}, above {tolerance:.3g}"
    elif exact and differing:
        reason = f"{differing} elements differ from the integer reference"
    elif expected.ndim > 1 and np.issubdtype(expected.dtype, np.floating):
        ours, theirs = expected.argmax(1), found.argmax(1)
        differences = int((ours != theirs).sum())
        margin = np.take_along_axis(expected, ours[:, None], 1) - np.take_along_axis(expected, theirs[:, None], 1)
        disputed = int((margin > NEAR_TIE * largest).sum())
        reason = f"argmax differs in {disputed} places" if disputed else ""
    return EndToEndCheck(
        name, level, batch_size, exact, differing, error, fed_error, tolerance, differences, not reason, reason
    )


def _report(name: str, reference: Sequence[np.ndarray], other: Sequence[np.ndarray]) -> ReportedComparison:
    error = max(_largest_difference(a, b) for a, b in zip(reference, other, strict=True))
    differing = [
        int((a.argmax(1) != b.argmax(1)).reshape(len(a), -1).any(1).sum())
        for a, b in zip(reference, other, strict=True)
        if a.ndim > 1
    ]
    return ReportedComparison(name, error, max(differing, default=0))
