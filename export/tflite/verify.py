"""This module holds a .tflite file to the parity contract in LiteRT; export/parity/verdict.py has what holds for every
runtime.

(W) takes the int8 codes in the file, put back into PyTorch's order, times their scale. Where the file computes with
floats, so do the weights that LiteRT dequantizes.

(F) is judged with XNNPACK and with LiteRT's own kernels. (H) is for hybrid files: trained networks of 20 to 50 layers
are off by 0.7 to 2 %.

(I) is judged with XNNPACK. An operator on codes is exact; where floats are quantized, a code may be a tie. Outputs are
within 1e-5 of those of the reference that was fed the same codes.
"""

import hashlib
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from torch import nn

from codeq.quantizer.attach import QuantizedWeight
from export.backend import OnProgress
from export.errors import ExportError
from export.metadata import WeightMetadata
from export.parity.checks import CodesCheck, LayerKernel, OutputCheck, WeightCheck
from export.parity.codes import Count, judge_codes
from export.parity.fed import FedComparison, batch_comes_first
from export.parity.held import Held
from export.parity.outputs import as_approximate, compare_output, compare_program, within_tolerance
from export.parity.signal import measure_signal
from export.parity.verdict import Verdict
from export.parity.weights import as_trained, check_added, check_weights, compare_weight, expected_weight, stored_shape
from export.program.names import codes_name
from export.program.program import ActivationRecord, ReferenceProgram
from export.reference.machine import IntegerReference
from export.reference.tflm import TFLM
from export.reference.xnnpack import XNNPACK as XNNPACK_RULES
from export.runner import run_batches
from export.tflite.file.flatbuffer import tensors_by_name
from export.tflite.passes.bring_into_form import bring_into_form
from export.tflite.run import BUILTIN, XNNPACK
from export.tflite.runner import LiteRtRunner
from export.tflite.runtime import installed_version
from export.tflite.stored_file import TfliteFile, check_grids
from export.tflite.weights.layout import StoredLayout

FLOAT_REASONS = {
    "linear": "its output stays float: LiteRT's kernels on codes give codes only",
    "upsample_bilinear2d": "processors round its weights differently, or its grid is not its input's",
}
"""Why an operator with a kernel on codes computes in float, by what aten calls it."""


def check(
    stored: TfliteFile, model: nn.Module, held: Held, program: ReferenceProgram | None, on_progress: OnProgress
) -> Verdict:
    """Hold a file against its network; arguments and errors are those of `Backend.check`."""
    weights = (*_check_weights(stored, model, held), *check_grids(stored))
    if program is not None:
        return _check_codes(stored, held, program, weights, on_progress)
    checks: list[OutputCheck] = []
    runs = [(kernels, size) for kernels in (XNNPACK, BUILTIN) for size in held.batch_sizes]
    for done, (kernels, size) in enumerate(runs, start=1):
        runner = LiteRtRunner(stored.path, kernels=kernels)
        runner.open()
        found = run_batches(runner, held.inputs, size)
        for name, ours, theirs in zip(stored.outputs, held.expected, found, strict=True):
            judged = compare_output(name, kernels, size, ours, theirs)
            checks.append(as_approximate(judged, ours, theirs, held.count) if stored.approximate else judged)
        on_progress(done / len(runs), f"{kernels}, batch {size}")
    return Verdict("LiteRT", installed_version(), held.count, weights, tuple(checks), approximate=stored.approximate)


def reference_of(program: ReferenceProgram, cpu: str | None = None) -> IntegerReference:
    """Give the integer reference of a quantized program; the program takes the lowerings' form.

    Args:
        program: With its grids.
        cpu: "tflm" for TFLite Micro's rules; everything else follows XNNPACK's.
    """
    bring_into_form(program)
    return IntegerReference(program, TFLM if cpu == "tflm" else XNNPACK_RULES)


def _check_weights(stored: TfliteFile, model: nn.Module, held: Held) -> tuple[WeightCheck, ...]:
    """Hold weights to (W) of the contract: what the file stores, and what LiteRT makes of it."""
    tensors = tensors_by_name(stored.content)
    # Codes that become floats are freed on the way, so those are looked at.
    choices = [(weight.name, f"{codes_name(weight.name)}/dense") for weight in stored.metadata.weights]
    made = [[name for name in pair if name in tensors and tensors[name][0] is None] for pair in choices]
    names = [found[0] for found in made if found]
    computed: dict[str, np.ndarray] = {}
    if names:
        runner = LiteRtRunner(stored.path, kernels=BUILTIN, expose=names)
        runner.open()
        arrays = [tensor[:1].contiguous().numpy() for tensor in held.inputs]
        found = runner.run(runner.prepare(arrays))
        computed = dict(zip(names, found[-len(names) :], strict=True))

    def judge(quantized: QuantizedWeight, about: WeightMetadata) -> str:
        name = about.name
        wanted = expected_weight(model, quantized, about)
        if isinstance(wanted, str):
            return wanted
        if name not in stored.weights:
            return "" if codes_name(name) not in tensors else "the file calls it unused, but holds it"
        layout = stored.weights[name]
        reason = _compare_stored(wanted, tensors, about, layout)
        codes, densified = tensors.get(codes_name(name), (None,))[0], computed.get(f"{codes_name(name)}/dense")
        if not reason and densified is not None and codes is not None and not np.array_equal(densified, codes):
            return "LiteRT does not put its zeros back where they were"
        if about.shifted and name not in computed:
            return "the file does not compute it from its codes"
        if not reason and name in computed:
            return compare_weight(wanted, _as_trained(computed[name], about, layout, wanted.shape))
        return reason

    return check_weights(model, stored.metadata.weights, judge)


def _compare_stored(wanted: np.ndarray, tensors: Mapping[str, Any], about: WeightMetadata, layout: StoredLayout) -> str:
    codes, tensor = tensors.get(codes_name(about.name), (None, None))
    if codes is None or codes.dtype != np.int8:
        return "the file holds no int8 codes of it"
    scale = np.asarray(tensor.quantization.scale, np.float32)
    if scale.size > 1:
        shape = [1] * codes.ndim
        shape[tensor.quantization.quantizedDimension] = -1
        scale = scale.reshape(shape)
    if np.any(np.asarray(tensor.quantization.zeroPoint)):
        return "its codes have a zero point"
    shape_wanted = stored_shape(wanted.shape, about)
    if codes.size != math.prod(shape_wanted):
        return f"the file holds {codes.size} codes of it, expected {tuple(shape_wanted)}"
    plain = layout.restore(codes, shape_wanted)
    if hashlib.sha256(plain.tobytes()).hexdigest() != about.codes_sha256:
        return "its codes are not those that were exported (another hash)"
    if about.shifted:  # what LiteRT makes of them is compared
        return ""
    with np.errstate(over="ignore"):  # of a damaged scale, which differs then
        found = codes.astype(np.float32) * scale
    return compare_weight(wanted, _as_trained(found, about, layout, wanted.shape))


def _as_trained(found: np.ndarray, about: WeightMetadata, layout: StoredLayout, shape: tuple[int, ...]) -> np.ndarray:
    return as_trained(layout.restore(found, stored_shape(shape, about)), about, shape)


def _check_codes(
    stored: TfliteFile,
    held: Held,
    program: ReferenceProgram,
    weights: tuple[WeightCheck, ...],
    on_progress: OnProgress,
) -> Verdict:
    """Hold codes to (I) of the contract, and the program to (P)."""
    activations = program.activations
    assert activations is not None
    missing = [name for name in activations.encodings if name not in stored.codes]
    if missing:
        raise ExportError(f"{missing[0]} was to be quantized, and the file has no codes of it")
    names = tuple(stored.codes)
    reference = reference_of(program)
    stackable = batch_comes_first(program)
    comparison = FedComparison(reference, names)
    runner = LiteRtRunner(stored.path)
    probe = LiteRtRunner(stored.path, look_at=names)
    runner.open()
    probe.open()
    counts: dict[str, Count] = {}
    outputs: list[OutputCheck] = []
    for done, size in enumerate(held.batch_sizes, start=1):
        chunk = len(held.inputs[0]) if stackable else size
        found, fed = comparison.run(probe, held.inputs, size, chunk, counts)
        for plain, probed in zip(run_batches(runner, held.inputs, size), found, strict=True):
            if not np.array_equal(plain, probed):
                raise ExportError("LiteRT computes something else where its tensors are looked at")
        for name, ours, theirs in zip(stored.outputs, fed, found, strict=True):
            outputs.append(within_tolerance(compare_output(name, XNNPACK, size, ours, theirs)))
        on_progress(done / len(held.batch_sizes), f"{XNNPACK}, batch {size}")
    codes: list[CodesCheck] = []
    for name, count in counts.items():
        kernel = stored.kernels.get(name, "float")
        codes.append(judge_codes(name, XNNPACK, kernel, count, exact=kernel != "float"))
    return Verdict(
        "LiteRT",
        installed_version(),
        held.count,
        (*weights, *check_added(program, _stored_tensors(stored))),
        tuple(outputs),
        tuple(codes),
        _report_kernels(activations, stored.kernels),
        *compare_program(activations.float_outputs, held.expected),
        signal=measure_signal(stored.outputs, held.expected, found, activations.noise, held.count),
    )


def _stored_tensors(stored: TfliteFile) -> dict[str, np.ndarray]:
    return {name: data for name, (data, _) in tensors_by_name(stored.content).items() if data is not None}


def _report_kernels(activations: ActivationRecord, kernels: Mapping[str, str]) -> tuple[LayerKernel, ...]:
    """Say what LiteRT computes each layer with, in the program's order, and why others stay float."""
    rows = []
    for layer in activations.layers:
        reason = FLOAT_REASONS.get(layer.operator, "no kernel on codes is written for it")
        on_codes = layer.name in kernels
        kernel = kernels.get(layer.name, "float")
        rows.append(LayerKernel(layer.name, layer.operator, kernel, "" if on_codes else reason))
    rows += [LayerKernel(item.name, item.operator, "float", item.reason) for item in activations.float_layers]
    return tuple(rows)
