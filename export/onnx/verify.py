"""This module holds an ONNX file to the parity contract in onnxruntime; export/parity/verdict.py has what holds for
every runtime.

(F) is judged at three optimization levels with the session options stored in the file; what onnxruntime computes with
its default options is reported beside it and decides nothing.

(I) is judged at the same levels. End to end, outputs equal the integer reference bit for bit where every kernel follows
its rule exactly; else the argmax (axis 1) of an output of two dimensions is the reference's on every input, unless the
reference's best two are closer than 1 % of the largest magnitude. Without its optimizations onnxruntime computes
between quantizers in float: no kernel is exact there, and a level without any integer kernel decides nothing that
DEPLOYED_LEVEL proves.
"""

from collections.abc import Iterator, Mapping

import numpy as np
import onnx
import onnxruntime as ort
from onnx import numpy_helper
from torch import nn

from codeq.quantizer.attach import QuantizedWeight, quantized_weights
from export.backend import OnProgress
from export.errors import ExportError
from export.metadata import WeightMetadata
from export.onnx.evaluate import compute_values
from export.onnx.kernels import EXACT_KERNELS, report_kernels
from export.onnx.runner import OnnxruntimeRunner
from export.onnx.sessions import DEPLOYED_LEVEL, LEVELS, file_options
from export.onnx.stored_file import OnnxFile
from export.parity.checks import CodesCheck, LayerKernel, OutputCheck, WeightCheck
from export.parity.codes import Count, judge_codes
from export.parity.fed import REFERENCE_BATCH_SIZE, FedComparison, batch_comes_first, fed_errors
from export.parity.held import Held
from export.parity.outputs import compare_output, compare_program, compare_with_reference, report_comparison
from export.parity.signal import measure_signal
from export.parity.verdict import Verdict
from export.parity.weights import as_trained, check_added, check_weights, compare_weight, expected_weight
from export.program.names import codes_name
from export.program.program import ReferenceProgram
from export.program.run import in_batches
from export.reference.machine import IntegerReference
from export.reference.processors import onnxruntime_rules, this_processor
from export.runner import run_batches

GROUP_VALUES = 4_000_000
"""Weights that are compared at a time."""
DEFAULT_OPTIONS = "enable_all, default options"


def check(
    stored: OnnxFile, model: nn.Module, held: Held, program: ReferenceProgram | None, on_progress: OnProgress
) -> Verdict:
    """Hold a file against its network; arguments and errors are those of `Backend.check`."""
    weights = _check_weights(stored, model)
    if program is not None:
        return _check_codes(stored, held, program, weights, on_progress)
    runs = [(level, size, True) for level in LEVELS for size in held.batch_sizes]
    runs.append(("enable_all", held.batch_sizes[0], False))
    checks: list[OutputCheck] = []
    for done, (level, size, exact) in enumerate(runs, start=1):
        runner = OnnxruntimeRunner(stored.path, level=level, exact=exact)
        checks += _check_outputs(runner, held, level if exact else DEFAULT_OPTIONS, size, decides=exact)
        on_progress(done / len(runs), f"{level}, batch {size}")
    return Verdict("onnxruntime", str(ort.__version__), held.count, weights, tuple(checks))


def _check_outputs(
    runner: OnnxruntimeRunner, held: Held, setting: str, batch_size: int, *, decides: bool
) -> Iterator[OutputCheck]:
    """Hold outputs to (F) of the contract, in one setting."""
    runner.open()
    try:
        found = run_batches(runner, held.inputs, batch_size)
    except ExportError as error:
        reason = str(error).removeprefix(f"{runner.path}: ")
        yield OutputCheck.failed(runner.outputs[0], setting, batch_size, reason, decides=decides)
        return
    if len(found) != len(held.expected):
        reason = f"{len(found)} outputs, expected {len(held.expected)}"
        yield OutputCheck.failed(runner.outputs[0], setting, batch_size, reason, decides=decides)
        return
    for name, ours, theirs in zip(runner.outputs, held.expected, found, strict=True):
        yield compare_output(name, setting, batch_size, ours, theirs, decides=decides)


def _check_codes(
    stored: OnnxFile,
    held: Held,
    program: ReferenceProgram,
    weights: tuple[WeightCheck, ...],
    on_progress: OnProgress,
) -> Verdict:
    """Hold codes to (I) of the contract, and the program to (P)."""
    activations = program.activations
    assert activations is not None
    # A program of a fixed batch size takes no other.
    chunk = held.batch_sizes[0] if len(held.batch_sizes) == 1 else REFERENCE_BATCH_SIZE
    stackable = batch_comes_first(program)
    integer = IntegerReference(program, onnxruntime_rules(this_processor()))
    reference = in_batches(integer.outputs, held.inputs, chunk)
    fake = in_batches(program.run, held.inputs, chunk)
    names = tuple(activations.encodings)
    comparison = FedComparison(integer, names)
    codes: list[CodesCheck] = []
    outputs: list[OutputCheck] = []
    kernels: tuple[LayerKernel, ...] = ()
    steps, done = len(LEVELS) * len(held.batch_sizes), 0
    for level in LEVELS:
        runner = OnnxruntimeRunner(stored.path, level=level, with_nodes=True)
        probe = OnnxruntimeRunner(stored.path, look_at=names, level=level, with_nodes=True)
        runner.open()
        probe.open()
        kernels = report_kernels(activations, runner.nodes)
        exact = all(kernel.kernel in EXACT_KERNELS for kernel in kernels)
        decides = level == DEPLOYED_LEVEL or any(kernel.is_integer for kernel in kernels)
        counts: dict[str, Count] = {}
        for size in held.batch_sizes:
            found, fed = comparison.run(probe, held.inputs, size, chunk if stackable else size, counts)
            if runner.nodes != probe.nodes:  # where the optimizer makes the same of both, the file has been run
                found = run_batches(runner, held.inputs, size)
            outputs += _end_to_end(runner.outputs, level, size, reference, found, fed, exact=exact, decides=decides)
            done += 1
            on_progress(done / steps, f"{level}, batch {size}")
        made_by = {layer.name: runner.nodes.get(layer.name, "none") for layer in activations.layers}
        made_by |= {item.name: "QuantizeLinear" for item in stored.model.graph.input}  # quantized as they come
        for name, count in counts.items():
            kernel = made_by.get(name, "float")
            codes.append(judge_codes(name, level, kernel, count, exact=kernel in EXACT_KERNELS, decides=decides))
    return Verdict(
        "onnxruntime",
        str(ort.__version__),
        held.count,
        (*weights, *check_added(program, _small_tensors(stored))),
        tuple(outputs),
        tuple(codes),
        kernels,
        *compare_program(activations.float_outputs, held.expected),
        signal=measure_signal(runner.outputs, held.expected, found, activations.noise, held.count),
        reported=(
            report_comparison("fake quantization in float", reference, fake, held.count),
            report_comparison("the network with float32 activations", reference, held.expected, held.count),
        ),
    )


def _end_to_end(
    names: tuple[str, ...],
    level: str,
    batch_size: int,
    reference: list[np.ndarray],
    found: list[np.ndarray],
    fed: list[np.ndarray],
    *,
    exact: bool,
    decides: bool,
) -> Iterator[OutputCheck]:
    if len(found) != len(reference):
        reason = f"{len(found)} outputs, expected {len(reference)}"
        yield OutputCheck.failed(names[0], level, batch_size, reason, decides=decides)
        return
    errors = fed_errors(fed, found)
    for name, ours, theirs, error in zip(names, reference, found, errors, strict=True):
        yield compare_with_reference(
            name, level, batch_size, ours, theirs, exact=exact, fed_error=error, decides=decides
        )


def _small_tensors(stored: OnnxFile) -> dict[str, np.ndarray]:
    """Give the tensors of one dimension at most, which biases and scales are."""
    folder = str(stored.path.parent)
    return {
        tensor.name: numpy_helper.to_array(tensor, folder)
        for tensor in stored.model.graph.initializer
        if len(tensor.dims) <= 1
    }


def _check_weights(stored: OnnxFile, model: nn.Module) -> tuple[WeightCheck, ...]:
    """Hold weights to (W) of the contract, as onnxruntime computes them, without optimizations and with all of them."""
    described = {weight.name: weight for weight in stored.metadata.weights}
    reasons: dict[str, str] = {}
    for group in _weight_groups(model, described):
        values = sorted({weight.value_name for _, weight in group if weight.value_name is not None})
        expected = {weight.name: expected_weight(model, quantized, weight) for quantized, weight in group}
        for level in ("disable_all", "enable_all"):
            computed = compute_values(stored.model, stored.path, values, level, file_options(stored.metadata))
            for _, weight in group:
                wanted = expected[weight.name]
                if isinstance(wanted, str):
                    reasons[weight.name] = wanted
                elif not reasons.get(weight.name):
                    found = as_trained(computed[weight.value_name or ""], weight, wanted.shape)
                    reasons[weight.name] = compare_weight(wanted, found)

    def judge(quantized: QuantizedWeight, weight: WeightMetadata) -> str:
        if weight.value_name is None and _mentions(stored.model.graph, weight.name):
            # Not part of the graph, says the file; then nothing of that name may be.
            return "the file calls it unused, but holds it"
        return reasons.get(weight.name, "")

    return check_weights(model, stored.metadata.weights, judge)


def _weight_groups(
    model: nn.Module, described: Mapping[str, WeightMetadata]
) -> Iterator[list[tuple[QuantizedWeight, WeightMetadata]]]:
    """Yield the weights that file and network share, a few million values at a time: they are computed in float32."""
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


def _mentions(graph: onnx.GraphProto, name: str) -> bool:
    names = {output for node in graph.node for output in node.output} | {tensor.name for tensor in graph.initializer}
    names |= {tensor.values.name for tensor in graph.sparse_initializer}
    return name in names or codes_name(name) in names
