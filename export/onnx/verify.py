"""The parity contract: an exported file in onnxruntime against its PyTorch network.

PyTorch here is the network itself in eval mode, fake-quantized as in training, not a product of the exporter.

(W) weights   Every quantized weight that onnxruntime computes equals the network's own, bit for bit. Where a BatchNorm
              was folded, it equals the network's times the channel's factor f[c], bit for bit in this form: the
              network's codes (negated where f[c] < 0) times float32(scale * |f[c]|), f computed here from the network.
(F) outputs   Every output is within 1e-5 of the output's largest magnitude, with the same argmax (axis 1), at batch
              sizes 1 and 3, at three optimization levels, with the session options stored in the file. Integer and
              boolean outputs are equal. NaN, a missing output, a wrong shape or a wrong dtype fails.

What onnxruntime computes with its default options is reported beside it and decides nothing. A file with quantized
activations is held to (W) and, instead of (F), to the integer reference: export/onnx/verify_integer.py.
"""

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import torch
from torch import Tensor, nn

from codeq.errors import first_line
from codeq.graph.autocast import autocast_off
from codeq.graph.eval_mode import eval_mode
from codeq.graph.inputs import Inputs, join_inputs
from codeq.quantizer.attach import QuantizedWeight, quantized_weights
from codeq.toolkit.table import render_table
from export.errors import ExportError
from export.metadata import WeightMetadata, read_metadata
from export.onnx.evaluate import compute_values
from export.onnx.sessions import LEVELS, load_model, load_session
from export.onnx.verify_integer import IntegerVerdict, check_integer, rebuild_program
from export.program.program import ReferenceProgram
from export.program.run import run_network, run_onnxruntime, take_inputs
from export.program.space_to_depth import rearranged_shape, restore_kernel

RELATIVE_TOLERANCE = 1e-5
"""Of the largest output magnitude: float32 sums in another order, through some tens of layers, stay well below it."""
BATCH_SIZES = (1, 3)
TORCH_BATCH_SIZE = 250
PROGRESS_STEPS = 100
GROUP_VALUES = 4_000_000
"""Weights that are compared at a time."""


@dataclass(frozen=True)
class WeightCheck:
    """One weight at every level. `reason` is empty where it equals PyTorch's."""

    name: str
    batch_norm: str | None
    ok: bool
    reason: str = ""


@dataclass(frozen=True)
class OutputCheck:
    """One output at one level and batch size, over all inputs.

    `max_abs_error` and `tolerance` are in output units. `cosine_similarity` is shown because others show it: it
    cannot see a wrong scale. `argmax_differences` counts inputs.
    """

    output: str
    level: str
    batch_size: int
    exact_options: bool
    max_abs_error: float
    tolerance: float
    cosine_similarity: float
    argmax_differences: int
    ok: bool
    reason: str = ""


@dataclass(frozen=True)
class Verdict:
    """The contract's answer for one file. `ok` is the conjunction of `weights`, `outputs` and `integer`.

    A file with quantized activations has `integer` instead of `outputs` and `default_options`.
    """

    inputs: int
    onnxruntime_version: str
    weights: tuple[WeightCheck, ...]
    outputs: tuple[OutputCheck, ...]
    default_options: tuple[OutputCheck, ...]
    integer: IntegerVerdict | None = None

    @property
    def ok(self) -> bool:
        return not self.first_failure

    @property
    def max_abs_error(self) -> float:
        """The largest over outputs, levels and batch sizes; infinite where an output could not be compared."""
        checks = self.outputs if self.integer is None else self.integer.outputs
        return max(check.max_abs_error for check in checks)

    @property
    def tolerance(self) -> float:
        """For `max_abs_error`, where activations are float."""
        return max((check.tolerance for check in self.outputs), default=0.0)

    @property
    def summary(self) -> str:
        """What was held and whether it did, in one line."""
        if self.integer is None:
            outputs = f"max_abs_error {self.max_abs_error:.1e} <= {self.tolerance:.1e} on {self.inputs} inputs"
        else:
            exact, rounded = (
                f"{self.integer.differing(integer_kernels=kind):,} of {self.integer.elements(integer_kernels=kind):,}"
                for kind in (True, False)
            )
            return f"codes differ: {exact}, in float kernels {rounded}; {self.inputs} inputs: {_word(self.ok)}"
        return f"{outputs}, weights bit for bit: {_word(self.ok)}"

    @property
    def first_failure(self) -> str:
        """One line, empty where the contract holds."""
        for weight in self.weights:
            if not weight.ok:
                return f"{weight.name}: {weight.reason}"
        for output in self.outputs:
            if not output.ok:
                return f"{output.output} at {output.level}, batch {output.batch_size}: {output.reason}"
        return "" if self.integer is None else self.integer.first_failure

    def to_dict(self) -> dict[str, Any]:
        """The verdict for machines; an infinite error is written as null."""

        def row(check: OutputCheck) -> dict[str, Any]:
            values = asdict(check)
            return {key: None if value in (np.inf, -np.inf) else value for key, value in values.items()}

        return {
            "ok": self.ok,
            "inputs": self.inputs,
            "onnxruntime_version": self.onnxruntime_version,
            "weights": [asdict(check) for check in self.weights],
            "outputs": [row(check) for check in self.outputs],
            "default_options": [row(check) for check in self.default_options],
            "integer": None if self.integer is None else self.integer.to_dict(),
        }

    def __str__(self) -> str:
        exact = sum(check.ok for check in self.weights)
        rows = [
            (
                check.output,
                check.level,
                "the file's" if check.exact_options else "default",
                str(check.batch_size),
                f"{check.max_abs_error:.1e}",
                f"{check.tolerance:.1e}",
                str(check.argmax_differences),
                _word(check.ok) if check.exact_options else ("would hold" if check.ok else "would fail"),
            )
            for check in (*self.outputs, *self.default_options)
        ]
        header = (
            "output",
            "optimization",
            "options",
            "batch",
            "max_abs_error",
            "tolerance",
            "argmax differs",
            "verdict",
        )
        counts = f"{exact} of {len(self.weights)}"
        lines = [
            render_table(header, rows) if self.integer is None else str(self.integer),
            f"weights   {counts} equal PyTorch's bit for bit: {_word(exact == len(self.weights))}",
        ]
        if not self.ok:
            lines.append(f"first failure: {self.first_failure}")
        if self.integer is not None:
            lines.append(f"codes     {self.summary}")
        lines.append(f"parity    {self.inputs} inputs, onnxruntime {self.onnxruntime_version}: {_word(self.ok)}")
        return "\n".join(lines)


@autocast_off()
def check_parity(
    path: str | os.PathLike[str],
    model: nn.Module,
    inputs: Inputs,
    *,
    program: ReferenceProgram | None = None,
    on_progress: Callable[[int, str], None] | None = None,
) -> Verdict:
    """Hold an exported file against its network. An autocast around the call is switched off.

    Args:
        path: A file written by `export.onnx`.
        model: The network it was made from, attached; run in eval mode, its modes left as they were.
        inputs: Held inputs, batch first: one tensor, several in the order of the network's arguments, or by their
            names. Fewer than a batch are repeated.
        program: What the file was made from, where its activations are quantized; None rebuilds it from the network
            and the file's own scales.
        on_progress: Called with the share done, of PROGRESS_STEPS, and what was just finished.

    Returns:
        The verdict; a violated contract is a verdict, not an exception.

    Raises:
        ExportError: The file cannot be opened, is not ours, or does not take these inputs; the network's outputs have
            no batch dimension or depend on the batch; or there are no inputs.
    """
    source = Path(path)
    tensors, names = take_inputs(model, inputs)
    held = tuple(tensor.detach() for tensor in tensors)
    count = len(held[0])
    if count == 0:
        raise ExportError("parity needs at least one input")
    session = load_session(source)
    _check_inputs(source, session, held, names)
    fixed_batch = session.get_inputs()[0].shape[0]
    batch_sizes = (fixed_batch,) if isinstance(fixed_batch, int) else BATCH_SIZES
    # A batch must be a whole one, or "batch 3" would be judged at another size.
    rows = torch.arange(max(batch_sizes) * -(-count // max(batch_sizes))) % count
    held = tuple(tensor[rows] for tensor in held)
    with eval_mode(model), torch.no_grad():
        size = fixed_batch if isinstance(fixed_batch, int) else TORCH_BATCH_SIZE
        expected = run_network(model, held, size, names)
        if not isinstance(fixed_batch, int):
            _check_batch_independence(model, held, names, expected)
        weights = _check_weights(source, model)
    metadata = read_metadata(load_model(source), source)
    if metadata.activations is not None:
        steps = len(LEVELS) * len(batch_sizes)
        numbers = iter(range(1, steps + 1))
        if program is None:
            program = rebuild_program(
                model,
                join_inputs(held, names),
                metadata,
                fixed_batch=fixed_batch if isinstance(fixed_batch, int) else None,
            )
        integer = check_integer(
            source,
            program,
            held,
            expected,
            batch_sizes,
            on_progress=lambda detail: (
                on_progress(PROGRESS_STEPS * next(numbers) // steps, detail) if on_progress else None
            ),
        )
        return Verdict(count, str(ort.__version__), weights, (), (), integer)
    runs = [(level, size, True) for level in LEVELS for size in batch_sizes]
    runs.append(("enable_all", batch_sizes[0], False))
    checks: list[OutputCheck] = []
    for done, (level, size, exact) in enumerate(runs, start=1):
        checks += _check_outputs(source, held, expected, level, size, exact=exact)
        if on_progress is not None:
            on_progress(PROGRESS_STEPS * done // len(runs), f"{level}, batch {size}")
    return Verdict(
        inputs=count,
        onnxruntime_version=str(ort.__version__),
        weights=weights,
        outputs=tuple(check for check in checks if check.exact_options),
        default_options=tuple(check for check in checks if not check.exact_options),
    )


def _check_batch_independence(
    model: nn.Module, inputs: tuple[Tensor, ...], names: tuple[str, ...], expected: list[np.ndarray]
) -> None:
    """A network whose answer for one input depends on the others cannot be held to any."""
    alone = run_network(model, tuple(tensor[:1] for tensor in inputs), 1, names)
    for index, (one, many) in enumerate(zip(alone, expected, strict=True)):
        together = many[: len(one)].astype(np.float64)
        error = np.abs(one - together).max(initial=0)
        if np.isfinite(error) and error > RELATIVE_TOLERANCE * np.abs(many).max(initial=0):
            raise ExportError(
                f"output {index} of {type(model).__name__} depends on the batch: alone, an input gives another answer "
                f"(by {error:.3g}); a file for single inputs cannot compute it"
            )


def _check_inputs(
    source: Path, session: ort.InferenceSession, inputs: tuple[Tensor, ...], names: tuple[str, ...]
) -> None:
    wanted = session.get_inputs()
    if len(wanted) != len(inputs):
        raise ExportError(f"{source}: takes {len(wanted)} inputs, found {len(inputs)}")
    if names and names != tuple(item.name for item in wanted):
        raise ExportError(f"{source}: takes {', '.join(item.name for item in wanted)}, found {', '.join(names)}")
    for item, tensor in zip(wanted, inputs, strict=True):
        sizes = item.shape[1:]
        if len(item.shape) != tensor.ndim or any(
            isinstance(size, int) and size != found for size, found in zip(sizes, tensor.shape[1:], strict=True)
        ):
            raise ExportError(
                f"{source}: input {item.name!r} takes {item.shape}, found {list(tensor.shape)}; "
                "is it the file of another network?"
            )


def _check_outputs(
    source: Path, inputs: tuple[Tensor, ...], expected: list[np.ndarray], level: str, batch_size: int, *, exact: bool
) -> Iterator[OutputCheck]:
    session = load_session(source, level=level, exact=exact)
    names = [item.name for item in session.get_outputs()]
    try:
        found = run_onnxruntime(session, inputs, batch_size)
    except Exception as error:  # onnxruntime's exceptions share no public base class
        reason = f"onnxruntime cannot run it ({first_line(error)})"
        yield OutputCheck(names[0], level, batch_size, exact, np.inf, 0.0, 0.0, 0, False, reason)
        return
    if len(found) != len(expected):
        reason = f"{len(found)} outputs, expected {len(expected)}"
        yield OutputCheck(names[0], level, batch_size, exact, np.inf, 0.0, 0.0, 0, False, reason)
        return
    for name, ours, theirs in zip(names, expected, found, strict=True):
        yield compare_output(name, level, batch_size, exact, ours, theirs)


def compare_output(
    name: str, level: str, batch_size: int, exact: bool, expected: np.ndarray, found: np.ndarray
) -> OutputCheck:
    """Judge one output; see the module's docstring for the rule."""

    def failed(reason: str) -> OutputCheck:
        return OutputCheck(name, level, batch_size, exact, np.inf, 0.0, 0.0, 0, False, reason)

    if found.shape != expected.shape:
        return failed(f"shape {found.shape}, expected {expected.shape}")
    if found.dtype != expected.dtype:
        return failed(f"dtype {found.dtype}, expected {expected.dtype}")
    if not np.issubdtype(expected.dtype, np.floating):
        same = bool(np.array_equal(expected, found))
        differing = 0 if same else int(np.count_nonzero(expected != found))
        reason = "" if same else f"{differing} elements differ"
        return OutputCheck(name, level, batch_size, exact, float(not same), 0.0, 1.0, 0, same, reason)
    if not (np.isfinite(found).all() and np.isfinite(expected).all()):
        return failed("NaN or infinite values")
    wide, other = expected.astype(np.float64), found.astype(np.float64)
    error = float(np.abs(wide - other).max(initial=0))
    tolerance = RELATIVE_TOLERANCE * float(np.abs(wide).max(initial=0))
    norms = float(np.linalg.norm(wide) * np.linalg.norm(other))
    cosine = float((wide * other).sum() / norms) if norms else 1.0
    differences = int((expected.argmax(1) != found.argmax(1)).sum()) if expected.ndim > 1 else 0
    reason = ""
    if error > tolerance:
        reason = f"max_abs_error {error:.3g} above {tolerance:.3g}"
    elif differences:
        reason = f"argmax differs in {differences} places"
    return OutputCheck(name, level, batch_size, exact, error, tolerance, cosine, differences, not reason, reason)


def _check_weights(source: Path, model: nn.Module) -> tuple[WeightCheck, ...]:
    """(W): the weights as onnxruntime computes them, against those that the network's forward pass computes with."""
    proto = load_model(source)
    metadata = read_metadata(proto, source)
    entries = metadata.session_options
    described = {weight.name: weight for weight in metadata.weights}
    reasons: dict[str, str] = {}
    for group in _weight_groups(model, described):
        values = sorted({weight.value_name for _, weight in group if weight.value_name is not None})
        expected = {weight.name: expected_weight(model, quantized, weight) for quantized, weight in group}
        for level in ("disable_all", "enable_all"):
            computed = compute_values(proto, source, values, level, entries)
            for _, weight in group:
                wanted = expected[weight.name]
                if isinstance(wanted, str):
                    reasons[weight.name] = wanted
                elif not reasons.get(weight.name):
                    found = as_trained(computed[weight.value_name or ""], weight, wanted.shape)
                    reasons[weight.name] = compare_weight(wanted, found)
    checks = []
    for quantized in quantized_weights(model):
        about = described.pop(quantized.name, None)
        if about is None:
            checks.append(WeightCheck(quantized.name, None, False, "the file has no such weight"))
            continue
        reason = reasons.get(about.name, "")
        if about.value_name is None and _mentions(proto.graph, about.name):
            # Not part of the graph, says the file; then nothing of that name may be.
            reason = "the file calls it unused, but holds it"
        checks.append(WeightCheck(about.name, about.batch_norm, not reason, reason))
    for name in described:
        checks.append(WeightCheck(name, None, False, "the network has no such quantized weight"))
    return tuple(checks)


def _weight_groups(
    model: nn.Module, described: Mapping[str, WeightMetadata]
) -> Iterator[list[tuple[QuantizedWeight, WeightMetadata]]]:
    """The weights that file and network share, a few million values at a time: they are computed in float32."""
    group: list[tuple[QuantizedWeight, WeightMetadata]] = []
    values = 0
    for quantized in quantized_weights(model):
        weight = described.get(quantized.name)
        if weight is None or weight.value_name is None:
            continue
        group.append((quantized, weight))
        values += quantized.original.numel()
        if values >= GROUP_VALUES:
            yield group
            group, values = [], 0
    if group:
        yield group


def stored_shape(shape: tuple[int, ...], weight: WeightMetadata) -> tuple[int, ...]:
    """The shape of a file's codes for a weight of `shape`."""
    return shape if weight.space_to_depth is None else rearranged_shape(shape, weight.space_to_depth)


def as_trained(found: np.ndarray, weight: WeightMetadata, shape: tuple[int, ...]) -> np.ndarray:
    """A weight in the layout of its network."""
    if weight.space_to_depth is None or found.ndim != 4:
        return found
    kernel = restore_kernel(torch.from_numpy(found), weight.space_to_depth, shape)
    return found if kernel is None else kernel.numpy()


def _mentions(graph: onnx.GraphProto, name: str) -> bool:
    names = {output for node in graph.node for output in node.output} | {tensor.name for tensor in graph.initializer}
    names |= {tensor.values.name for tensor in graph.sparse_initializer}
    return name in names or f"{name}_quantized" in names


def compare_weight(expected: np.ndarray, found: np.ndarray) -> str:
    """An empty string where `found` is `expected` bit for bit, else the reason."""
    if found.dtype != np.float32 or found.shape != expected.shape:
        return f"is {found.dtype} {found.shape}, expected float32 {expected.shape}"
    # Comparing the bits; adding 0 makes the two zeros one.
    different = int(((found + 0.0).view(np.int32) != (expected + 0.0).view(np.int32)).sum())
    if different:
        worst = float(np.abs(found - expected).max())
        return f"{different} of {found.size} values differ from PyTorch's, by up to {worst:.3g}"
    return ""


def expected_weight(model: nn.Module, quantized: QuantizedWeight, weight: WeightMetadata) -> np.ndarray | str:
    """What the file must compute, float32, or the reason why nothing could be right.

    Unfolded, the weight of the network's own forward pass. Folded, its codes times float32(scale * |f|); that the codes
    times the scale are the forward pass's weight is checked on the way.
    """
    forward = getattr(quantized.module, quantized.tensor_name).detach().numpy()
    if weight.batch_norm is None:
        return np.asarray(forward)
    try:
        encoding = quantized.quantizer.encode(quantized.original)
    except ValueError as error:
        raise ExportError(f"{weight.name}: {error}") from error
    if compare_weight(forward, encoding.dequantize().numpy()):
        return "the network's codes times their scale are not its weight"
    norm = dict(model.named_modules()).get(weight.batch_norm)
    if not isinstance(norm, nn.modules.batchnorm._BatchNorm) or norm.running_var is None:
        return f"the file names the BatchNorm {weight.batch_norm!r}, which the network has not"
    codes = encoding.codes.numpy().astype(np.float32)
    axis = weight.axis if weight.axis is not None else 0
    if not 0 <= axis < codes.ndim or codes.shape[axis] != norm.num_features:
        return f"has no {norm.num_features} channels on axis {axis}, as {weight.batch_norm!r} does"
    shape = [1] * codes.ndim
    shape[axis] = -1
    gamma = np.ones(norm.num_features) if norm.weight is None else norm.weight.detach().double().numpy()
    factors = (gamma / np.sqrt(norm.running_var.double().numpy() + norm.eps)).reshape(shape)
    codes = codes * np.sign(factors).astype(np.float32)
    folded = codes * (float(encoding.scale) * np.abs(factors)).astype(np.float32)
    if encoding.shift is not None:
        folded = folded + (float(encoding.shift) * np.abs(factors)).astype(np.float32) * np.sign(codes)
    return np.asarray(folded)


def _word(ok: bool) -> str:
    return "ok" if ok else "FAILED"
