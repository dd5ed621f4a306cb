"""A program becomes a .tflite file: by this package's lowerings, or by litert-torch and an exchange of weights."""

from collections import Counter
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

from export.backend import StoredWeight, Written
from export.errors import ExportError
from export.program.describe import describe_program
from export.program.names import codes_name
from export.program.prepare import Prepared
from export.program.program import ReferenceProgram
from export.tflite.build import Build
from export.tflite.c_array import write_c_array
from export.tflite.details import TfliteDetails
from export.tflite.ethos_u import estimate
from export.tflite.file.flatbuffer import write
from export.tflite.interface import float_interface
from export.tflite.litert_torch import convert_with_codes
from export.tflite.lower import build_graph, describe_layout
from export.tflite.micro import arena_of, check_micro
from export.tflite.options import ETHOS_U, WRITER, TfliteRequest
from export.tflite.passes.sparse_inference import plan_sparse_inference, store_dense
from export.tflite.runtime import PACKAGE, installed_version
from export.tflite.stored_file import LITERT
from export.tflite.trusted import trust
from export.tflite.weights.form import DEQUANTIZE, StoredForm, WeightForms, form_notes
from export.tflite.weights.layout import StoredLayout

FORMS = {"dense": "int8", "csr": "CSR", "int4": "int4"}
"""What reports call the forms of export/tflite/weights/form.py."""


def write_tflite(prepared: Prepared, request: TfliteRequest, staged: Path) -> Written:
    """Lower a program and write it.

    Args:
        prepared: The program, which is changed; canonical for this package's lowerings.
        request: What was asked for.
        staged: Where to write.

    Raises:
        ExportError: An operator without a lowering, or an option that does nothing.
    """
    pack: Callable[[Mapping[str, str]], bytes]
    operators: Collection[str]
    if request.backend == WRITER:
        forms = WeightForms(request.form, request.int4, request.hybrid)
        codes_io = request.codes_io
        build = build_graph(prepared.program, channels_last_io=request.layout == "nhwc", codes_io=codes_io, forms=forms)
        if request.batch is not None:
            _refuse_other_axes(build)
            build.graph.fix_batch(request.batch)
        sparse = None
        if prepared.program.activations is None and not request.hybrid:
            sparse = plan_sparse_inference(build.graph, wanted=request.sparse_inference == "auto")
            build = _stored_dense(build) if sparse.hazard else _mirrored(build, sparse.mirrored)
        pack = partial(write, build.graph)
        operators = [operator.code for operator in build.graph.operators]
        if request.is_micro:
            check_micro(build, operators, request.target)
        notes = (*(float_interface(build) if codes_io else ()), *form_notes(build.forms, build.stored))
    else:
        converted = convert_with_codes(prepared.program, tuple(tensor[:1] for tensor in prepared.held))
        build, pack, operators = converted.build, converted.editor.pack, converted.editor.operators()
        notes = ("converted by litert-torch: its batch is 1",)
        sparse = None
    notes = (*notes, *_micro_note(prepared.program, build.stored))
    metadata = describe_program(
        prepared.program,
        request,
        {name: name for name in build.weights},
        versions={PACKAGE: installed_version()},
        storage=request.form if request.backend == WRITER else "dense",
        target=LITERT,
        layout={"backend": request.backend, **describe_layout(build)},
    )
    content = pack(metadata)
    staged.write_bytes(content)
    trust(content)
    details = TfliteDetails(
        dict(Counter(operators)),
        arena_of(content) if request.is_micro else None,
        estimate(content) if request.target == ETHOS_U else None,
        sparse,
    )
    companions = write_c_array(build, operators, content, staged) if request.c_array else ()
    return Written(_stored_weights(build), lambda size_bytes: details, companions, notes=notes)


def _stored_dense(build: Build) -> Build:
    """Store weights with their zeros, where leaving them out would make a runtime compute wrong numbers."""
    store_dense(build.graph)
    tensors = {tensor.name: tensor for tensor in build.graph.tensors}

    def dense(name: str, form: StoredForm) -> StoredForm:
        codes = tensors[codes_name(name)]
        assert codes.data is not None
        assert codes.quantization is not None
        return replace(form, form="dense", size_bytes=codes.data.nbytes + 4 * codes.quantization.scale.size)

    return replace(
        build, stored={n: dense(n, form) if form.form == "csr" else form for n, form in build.stored.items()}
    )


def _mirrored(build: Build, kernels: Collection[str]) -> Build:
    """Say of kernels that their rows and columns, the last two axes, lie from behind."""

    def turned(layout: StoredLayout) -> StoredLayout:
        return replace(layout, mirrored=(len(layout.view) - 2, len(layout.view) - 1))

    return replace(
        build, weights={n: turned(how) if codes_name(n) in kernels else how for n, how in build.weights.items()}
    )


def _refuse_other_axes(build: Build) -> None:
    """Refuse outputs whose batch is not their first axis: only open shapes tell a reader where it is."""
    for name, number in build.graph.outputs.items():
        if build.graph.tensors[number].open_batch[:1] not in ((), (0,)):
            raise ExportError(f"--batch: the batch of output {name} is not its first axis; leave --batch out")


def _micro_note(program: ReferenceProgram, stored: Mapping[str, StoredForm]) -> tuple[str, ...]:
    """Warn of the one runtime that opens such a file and computes something else, without an error."""
    floats = {name for name, form in stored.items() if form.reader.operator == DEQUANTIZE}
    many = sum(r.encoding.scale.numel() > 1 for r in program.weights.values() if r.name in floats)
    if not floats or (program.activations is not None and not many):
        return ()
    return (
        "not for TensorFlow Lite Micro: its DEQUANTIZE takes one scale per tensor, and computes wrong numbers, without "
        f"an error, from weights with one per channel ({many} of {len(floats)} here)",
    )


def _stored_weights(build: Build) -> dict[str, StoredWeight]:
    return {
        name: StoredWeight(FORMS[stored.form], stored.reason, stored.size_bytes, str(stored.reader))
        for name, stored in build.stored.items()
    }
