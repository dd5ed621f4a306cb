"""The parity contract of a .tflite file: LiteRT against the PyTorch network it was made from.

(W) weights   The int8 codes in the file, put back into PyTorch's order, times their scale equal the network's own
              weight bit for bit (as export/onnx/verify.py says where a BatchNorm was folded). Where the file computes
              with floats, so do the weights that LiteRT dequantizes.
(F) outputs   With float activations: every output is within 1e-5 of its largest magnitude, with the same argmax
              (axis 1), at batch sizes 1 and 3, with XNNPACK and with LiteRT's own kernels.
(I) layers    With int8 activations, at batch sizes 1 and 3, with XNNPACK: fed what LiteRT fed it, no code of an
              operator on codes differs from the integer reference (export/reference/xnnpack.py). Where floats are
              quantized, a code may be one step off if the value that was rounded lies within a hundredth of a step of
              the middle between two. Outputs are within 1e-5 of those of the reference that was fed the same codes.
(H) hybrid    Where LiteRT quantizes a layer's float input itself, outputs are approximate: they are only held to be
              finite and within a quarter of their largest magnitude, at the same batch sizes, with both sets of
              kernels. Trained networks of 20 to 50 layers are off by 0.7 to 2 %. Weights are held as ever.
(P) program   Before activations are quantized, the program computes what the network does, likewise.
"""

import hashlib
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from codeq.graph.eval_mode import eval_mode
from codeq.quantizer.attach import quantized_weights
from codeq.toolkit.table import MAX_WIDTH, render_table
from export.errors import ExportError
from export.metadata import KEY, WeightMetadata, parse_metadata
from export.onnx.verify import (
    BATCH_SIZES,
    OutputCheck,
    WeightCheck,
    as_trained,
    compare_output,
    compare_weight,
    expected_weight,
    stored_shape,
)
from export.onnx.verify_integer import TIE_DISTANCE, Count, LayerCheck, Substitute, compare_program
from export.program.prepare import Prepared
from export.program.run import in_batches, run_network
from export.reference.machine import IntegerReference
from export.reference.xnnpack import XNNPACK as XNNPACK_RULES
from export.tflite.build import UINT8_TO_INT8, Build
from export.tflite.file.flatbuffer import read, read_metadata, tensors_by_name, with_outputs
from export.tflite.interface import SUFFIX, file_inputs, real_output
from export.tflite.run import BUILTIN, XNNPACK, run_file
from export.tflite.runtime import installed_version
from export.tflite.weights.layout import CHANNELS_LAST, Order, StoredLayout

HYBRID_TOLERANCE = 0.25
"""Of the largest output magnitude; see (H)."""


@dataclass(frozen=True)
class TfliteVerdict:
    """The contract's answer. `program_error` and `program_tolerance` are (P), 0 where activations are float.

    `approximate` says that outputs were held to (H).
    """

    inputs: int
    litert_version: str
    weights: tuple[WeightCheck, ...]
    outputs: tuple[OutputCheck, ...]
    layers: tuple[LayerCheck, ...] = ()
    program_error: float = 0.0
    program_tolerance: float = 0.0
    approximate: bool = False

    @property
    def ok(self) -> bool:
        return not self.first_failure

    @property
    def first_failure(self) -> str:
        """One line, empty where the contract holds."""
        for weight in self.weights:
            if not weight.ok:
                return f"{weight.name}: {weight.reason}"
        if not self.program_error <= self.program_tolerance:
            error, limit = self.program_error, self.program_tolerance
            return f"the reference program is off the network by {error:.3g}, above {limit:.3g}"
        for layer in self.layers:
            if not layer.ok:
                return (
                    f"{layer.name} with {layer.level} ({layer.kernel}): {layer.differing} of {layer.elements} codes "
                    f"differ from the integer reference, by up to {layer.max_step}"
                )
        for output in self.outputs:
            if not output.ok:
                return f"{output.output} with {output.level}, batch {output.batch_size}: {output.reason}"
        return ""

    @property
    def summary(self) -> str:
        """What was held and whether it did, in one line."""
        return f"{self._figures}; {self.inputs} inputs, weights bit for bit: {_word(self.ok)}"

    @property
    def _figures(self) -> str:
        error, tolerance = (max(getattr(o, field) for o in self.outputs) for field in ("max_abs_error", "tolerance"))
        if self.approximate:
            differences = max(output.argmax_differences for output in self.outputs)
            share = f"{HYBRID_TOLERANCE * error / tolerance:.2%}" if tolerance else "0%"
            return (
                f"approximate (hybrid): outputs off by {error:.1e}, {share} of the largest (limit "
                f"{HYBRID_TOLERANCE:.0%}), argmax differs on {differences}"
            )
        if not self.layers:
            return f"max_abs_error {error:.1e} <= {tolerance:.1e}"
        counts = [[layer for layer in self.layers if (layer.kernel != "float") == integer] for integer in (True, False)]
        on_codes, on_floats = (
            f"{sum(layer.differing for layer in part):,} of {sum(layer.elements for layer in part):,}"
            for part in counts
        )
        return f"codes differ: {on_codes}, behind float kernels {on_floats}"

    def to_dict(self) -> dict[str, Any]:
        """The verdict for machines; an infinite error is written as null."""
        values = asdict(self)
        for row in values["outputs"]:
            row.update({key: None for key, value in row.items() if value == float("inf")})
        return values | {"ok": self.ok}

    def __str__(self) -> str:
        lines = []
        if self.layers:
            header = ("codes differing in", "kernel", "codes", "differ", "verdict")
            lines.append(render_table(header, [_layer_row(layer) for layer in self.layers]))
        for output in self.outputs:
            word = "ok" if output.ok else f"FAILED, {output.reason}"
            lines.append(
                f"{output.output} with {output.level}, batch {output.batch_size}: max_abs_error "
                f"{output.max_abs_error:.1e} <= {output.tolerance:.1e}: {word}"
            )
        if not self.ok:
            lines.append(f"first failure: {self.first_failure}")
        exact = sum(weight.ok for weight in self.weights)
        counts = f"{exact} of {len(self.weights)}"
        lines.append(
            f"weights   {counts} as LiteRT has them are PyTorch's bit for bit: {_word(exact == len(self.weights))}"
        )
        lines += textwrap.wrap(f"outputs   {self._figures}", MAX_WIDTH, subsequent_indent=" " * 10)
        lines.append(f"parity    {self.inputs} inputs, LiteRT {self.litert_version}: {_word(self.ok)}")
        return "\n".join(lines)


def check_parity(
    path: Path, model: nn.Module, prepared: Prepared, build: Build, batch_sizes: Sequence[int] = BATCH_SIZES
) -> TfliteVerdict:
    """Hold a file against its network.

    Args:
        path: The file, as written.
        model: The network; run in eval mode, its modes left as they were.
        prepared: What the file was made from, with the held inputs; fewer than a batch are repeated.
        build: How it was lowered.
        batch_sizes: To run it at; a file of float activations only may take others than these.

    Raises:
        ExportError: LiteRT cannot run the file, or it lacks what it should hold.
    """
    data = path.read_bytes()
    count = len(prepared.held[0])
    largest = max(BATCH_SIZES)
    rows = torch.arange(largest * -(-count // largest)) % count
    held = tuple(tensor[rows] for tensor in prepared.held)
    orders = [CHANNELS_LAST.get(tensor.ndim) if build.channels_last_io else None for tensor in held]
    with eval_mode(model), torch.no_grad():
        expected = run_network(model, held, largest, prepared.names)
    activations = prepared.program.activations
    fed = held if activations is None else file_inputs(build, held, activations.encodings)
    with eval_mode(model), torch.no_grad():
        weights = check_weights(data, model, [tensor[:1] for tensor in fed], orders, build.weights)
    if activations is not None:
        program = compare_program(activations.float_outputs, expected)
        outputs, layers = _check_codes(data, prepared, build, held, fed, orders)
        return TfliteVerdict(count, installed_version(), weights, outputs, layers, *program)
    hybrid = any(stored.reader.hybrid for stored in build.stored.values())
    checks = []
    for kernels in (XNNPACK, BUILTIN):
        for size in batch_sizes:
            found = run_file(data, held, size, kernels, orders)
            for name, ours, theirs in zip(build.graph.outputs, expected, found, strict=True):
                plain = real_output(build, name, theirs)
                check = compare_output(name, kernels, size, True, ours, plain)
                checks.append(_approximate(check, ours, plain, count) if hybrid else check)
    return TfliteVerdict(count, installed_version(), weights, tuple(checks), approximate=hybrid)


def check_weights(
    data: bytes,
    model: nn.Module,
    inputs: Sequence[Tensor],
    orders: Sequence[Order | None],
    layouts: Mapping[str, StoredLayout],
) -> tuple[WeightCheck, ...]:
    """(W): what the file stores and what LiteRT makes of it, against the network's forward pass.

    Args:
        data: The file.
        model: In eval mode.
        inputs, orders: Of one input, to run the file.
        layouts: How each weight lies in the file, by name.
    """
    content = read(data)
    stored = tensors_by_name(content)
    text = read_metadata(content, KEY)
    about = {} if text is None else {weight.name: weight for weight in parse_metadata(text, "the file").weights}
    names = [name for weight in about for name in (weight, f"{weight}{SUFFIX}/dense")]
    names = [name for name in names if name in stored and stored[name][0] is None]
    computed: dict[str, np.ndarray] = {}
    if names:
        found = run_file(with_outputs(data, names), inputs, 1, BUILTIN, orders)
        computed = dict(zip(names, found[-len(names) :], strict=True))
    checks = []
    for quantized in quantized_weights(model):
        name = quantized.name
        if name not in about:
            checks.append(WeightCheck(name, None, False, "the file has no such weight"))
            continue
        wanted = expected_weight(model, quantized, about[name])
        if isinstance(wanted, str):
            reason = wanted
        elif name not in layouts:
            reason = "" if f"{name}{SUFFIX}" not in stored else "the file calls it unused, but holds it"
        else:
            reason = _compare_stored(name, wanted, stored, about[name], layouts[name])
            codes, densified = stored.get(f"{name}{SUFFIX}", (None,))[0], computed.get(f"{name}{SUFFIX}/dense")
            if not reason and densified is not None and codes is not None and not np.array_equal(densified, codes):
                reason = "LiteRT does not put its zeros back where they were"
            if about[name].shifted and name not in computed:
                reason = "the file does not compute it from its codes"
            if not reason and name in computed:
                reason = compare_weight(wanted, _as_trained(computed[name], about[name], layouts[name], wanted.shape))
        checks.append(WeightCheck(name, about[name].batch_norm, not reason, reason))
    return tuple(checks)


def _compare_stored(
    name: str, wanted: np.ndarray, stored: Mapping[str, Any], about: WeightMetadata, layout: StoredLayout
) -> str:
    codes, tensor = stored.get(f"{name}{SUFFIX}", (None, None))
    if codes is None or codes.dtype != np.int8:
        return "the file holds no int8 codes of it"
    scale = np.asarray(tensor.quantization.scale, np.float32)
    if scale.size > 1:
        shape = [1] * codes.ndim
        shape[tensor.quantization.quantizedDimension] = -1
        scale = scale.reshape(shape)
    if np.any(np.asarray(tensor.quantization.zeroPoint)):
        return "its codes have a zero point"
    plain = layout.restore(codes, stored_shape(wanted.shape, about))
    if hashlib.sha256(plain.tobytes()).hexdigest() != about.codes_sha256:
        return "its codes are not those that were exported (another hash)"
    if about.shifted:  # what LiteRT makes of them is compared
        return ""
    return compare_weight(wanted, _as_trained(codes.astype(np.float32) * scale, about, layout, wanted.shape))


def _as_trained(found: np.ndarray, about: WeightMetadata, layout: StoredLayout, shape: tuple[int, ...]) -> np.ndarray:
    return as_trained(layout.restore(found, stored_shape(shape, about)), about, shape)


def _check_codes(
    data: bytes,
    prepared: Prepared,
    build: Build,
    held: tuple[Tensor, ...],
    fed: tuple[Tensor, ...],
    orders: Sequence[Order | None],
) -> tuple[tuple[OutputCheck, ...], tuple[LayerCheck, ...]]:
    """(I)"""
    activations = prepared.program.activations
    assert activations is not None
    missing = [name for name in activations.encodings if name not in build.codes]
    if missing:
        raise ExportError(f"{missing[0]} was to be quantized, and the file has no codes of it")
    names = list(build.codes)
    probe = with_outputs(data, [f"{name}{SUFFIX}" for name in names])
    reference = IntegerReference(prepared.program, XNNPACK_RULES)
    counts: dict[str, Count] = {}
    outputs = []
    for size in BATCH_SIZES:
        found = run_file(probe, fed, size, XNNPACK, orders)
        ends, codes = found[: len(build.graph.outputs)], found[len(build.graph.outputs) :]
        for plain, probed in zip(run_file(data, fed, size, XNNPACK, orders), ends, strict=True):
            if not np.array_equal(plain, probed):
                raise ExportError("LiteRT computes something else where its tensors are looked at")
        codes_found = {
            f"{name}{SUFFIX}": _plain_codes(values, build.codes[name])
            for name, values in zip(names, codes, strict=True)
        }
        seen: dict[str, Count] = {}
        # One call for all inputs: what the reference is fed is in step with them.
        substitute = Substitute(codes_found, seen)
        computed = in_batches(lambda *x: reference.outputs(*x, on_codes=substitute), held, len(held[0]))  # noqa: B023
        for name, count in seen.items():
            counts.setdefault(name, Count()).add(count)
        for name, ours, theirs in zip(build.graph.outputs, computed, ends, strict=True):
            plain = real_output(build, name, theirs)
            outputs.append(_within(compare_output(name, XNNPACK, size, True, ours, plain)))
    return tuple(outputs), tuple(
        _judge(name, build.integer.get(name, "float"), count) for name, count in counts.items()
    )


def _approximate(check: OutputCheck, expected: np.ndarray, found: np.ndarray, count: int) -> OutputCheck:
    """(H): the tolerance of approximate outputs; argmax is counted on the first `count` inputs and decides nothing."""
    if not np.isfinite(check.max_abs_error):
        return check
    tolerance = HYBRID_TOLERANCE * float(np.abs(expected.astype(np.float64)).max(initial=0))
    differences = 0
    if expected.ndim > 1:
        off = expected[:count].argmax(1) != found[:count].argmax(1)
        differences = int(off.reshape(len(off), -1).any(1).sum())
    reason = "" if check.max_abs_error <= tolerance else f"off by {check.max_abs_error:.3g}, above {tolerance:.3g}"
    return replace(check, tolerance=tolerance, argmax_differences=differences, ok=not reason, reason=reason)


def _within(check: OutputCheck) -> OutputCheck:
    """Sums of codes tie often, and float32 sums in another order break ties another way: the tolerance decides."""
    return replace(check, ok=True, reason="") if check.max_abs_error <= check.tolerance else check


def _judge(name: str, kernel: str, count: Count) -> LayerCheck:
    within = count.max_step <= 1 and count.tie_distance <= TIE_DISTANCE
    ok = within if kernel == "float" else not count.differing
    return LayerCheck(name, XNNPACK, kernel, count.elements, count.differing, count.max_step, count.tie_distance, ok)


def _layer_row(layer: LayerCheck) -> tuple[str, ...]:
    return layer.name, layer.kernel, f"{layer.elements:,}", str(layer.differing), _word(layer.ok)


def _word(ok: bool) -> str:
    return "ok" if ok else "FAILED"


def _plain_codes(values: np.ndarray, order: Order) -> np.ndarray:
    """int8 codes as LiteRT holds them to the reference's uint8, PyTorch's order."""
    shifted = (values.astype(np.int16) - UINT8_TO_INT8).astype(np.uint8)
    return np.ascontiguousarray(shifted.transpose(np.argsort(order)))
