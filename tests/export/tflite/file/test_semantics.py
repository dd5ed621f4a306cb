"""What does not fit together in a file is refused before LiteRT crashes over it, or computes forever."""

from typing import Any

import numpy as np
import pytest

pytest.importorskip("ai_edge_litert", reason="LiteRT is an extra: pip install '.[tflite]'")

from export.errors import ExportError
from export.tflite.file.flatbuffer import read
from export.tflite.file.operands import COUNTS, MOVES, RANKS, SAME_SHAPE
from export.tflite.file.operator_versions import OPERATORS
from export.tflite.file.semantics import check_semantics
from export.tflite.runtime import schema
from tests.export.tflite.file.small import Change, changed, small_file, tensor


def check(data: bytes) -> None:
    check_semantics(read(data), len(data))


def test_a_file_of_ours_fits() -> None:
    check(small_file())


def put(name: str, **values: Any) -> Change:
    def change(model: Any) -> None:
        for key, value in values.items():
            setattr(tensor(model, name), key, value)

    return change


def grid(name: str, **values: Any) -> Change:
    def change(model: Any) -> None:
        for key, value in values.items():
            setattr(tensor(model, name).quantization, key, value)

    return change


def operator(number: int, **values: Any) -> Change:
    def change(model: Any) -> None:
        for key, value in values.items():
            setattr(model.subgraphs[0].operators[number], key, value)

    return change


def options(number: int, **values: Any) -> Change:
    def change(model: Any) -> None:
        for key, value in values.items():
            setattr(model.subgraphs[0].operators[number].builtinOptions, key, value)

    return change


def level(number: int, **values: Any) -> Change:
    def change(model: Any) -> None:
        for key, value in values.items():
            setattr(tensor(model, "sparse").sparsity.dimMetadata[number], key, value)

    return change


def indices(values: list[int]) -> Change:
    def change(model: Any) -> None:
        tensor(model, "sparse").sparsity.dimMetadata[-1].arrayIndices.values = np.array(values, np.uint8)

    return change


def the_last_comes_first(model: Any) -> None:
    operators = model.subgraphs[0].operators
    operators.insert(0, operators.pop())


def a_loop(model: Any) -> None:
    fb = schema()
    model.operatorCodes[0].builtinCode = model.operatorCodes[0].deprecatedBuiltinCode = fb.BuiltinOperator.WHILE
    for found in model.subgraphs[0].operators:
        if found.opcodeIndex == 0:
            found.builtinOptions, found.builtinOptionsType = fb.WhileOptionsT(), fb.BuiltinOptions.WhileOptions


def data_elsewhere(model: Any) -> None:
    model.externalBufferGroups = [schema().ExternalBufferGroupT()]
    model.externalBufferGroups[0].name = "/etc/passwd"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        # Each of these killed LiteRT, or kept it busy forever.
        (operator(0, outputs=[0]), r"operator 0 \(PAD\): writes tensor 'x', which is there already"),
        (the_last_comes_first, r"operator 0 \(CONV_2D\): reads tensor 'padded' before anything computes it"),
        (put("bias", isVariable=True), "tensor 'bias' is a variable that has data"),
        (put("dense", shape=[4, 7996, 3, 2]), r"operator 1 \(DENSIFY\): makes \[4, 7996, 3, 2\] of \[4, 3, 3, 2\]"),
        (put("plain", shape=[1, 3, 3, 2]), r"operator 2 \(DEQUANTIZE\): makes \[1, 3, 3, 2\] of"),
        (put("dense", quantization=None), r"operator 2 \(DEQUANTIZE\): tensor 4 holds codes and has no quantization"),
        (level(0, denseSize=2**31 - 1), r"a dense level of 2147483647 along an axis of \d"),
        (level(-1, arraySegments=None, arraySegmentsType=0), "lacks segments or indices"),
        (indices([0, 1, 200]), "tensor 'sparse': an index beyond its row|segments"),
        # The rest is what readers take for granted.
        (put("x", type=99), "tensor 'x' is of the unknown type 99"),
        (put("x", buffer=10**6), "the buffer of tensor 'x' is number 1000000"),
        (put("x", shape=[1, -5, 5, 2]), r"the shape of tensor 'x' is \[1, -5, 5, 2\]"),
        (put("x", shape=[1] * 9), "has 9 dimensions, more than 8"),
        (put("x", shapeSignature=[-1]), "and shape_signature"),
        (put("x", shape=[65536, 65536, 1, 1]), "more than 2,147,483,647 elements"),
        (put("bias", shape=[5]), "takes 20 bytes, its buffer has 16"),
        (put("sparse", type=2), "is sparse and INT32"),
        (grid("dense", scale=np.float32([np.nan])), "has a scale of nan"),
        (grid("dense", scale=np.float32([-1])), "has a scale of -1"),
        (grid("dense", scale=np.float32([1, 2, 3]), zeroPoint=np.int64([0, 0, 0])), "has 3 scales along axis 0"),
        (grid("dense", scale=np.float32([1] * 4), zeroPoint=np.int64([0] * 4), quantizedDimension=4), "along axis 4"),
        (grid("dense", zeroPoint=np.int64([0, 0])), "has 1 scales and 2 zero points"),
        (grid("dense", zeroPoint=np.int64([2**40])), "a zero point of more than 32 bits"),
        (operator(0, inputs=[0, 99]), "an operand is number 99"),
        (operator(0, inputs=[0]), r"takes operands \[0\], expected 2"),
        (operator(0, inputs=[0, -1]), r"takes operands \[0, -1\], expected 2"),
        (operator(0, outputs=[]), "has 0 results, expected 1"),
        (operator(0, outputs=[99]), "a result is number 99"),
        (operator(0, opcodeIndex=9), "the kind of operator 0 is number 9"),
        (operator(3, builtinOptions=None, builtinOptionsType=0), "has no Conv2DOptions"),
        (options(3, strideW=0), "has strideW 0"),
        (options(3, dilationHFactor=2**30), "has dilationHFactor 1073741824"),
        (options(3, fusedActivationFunction=77), "has the unknown activation 77"),
        (a_loop, "subgraph 0 calls itself"),
        (data_elsewhere, "keeps data in other files"),
        (lambda model: setattr(model, "version", 4), "version 4 of the schema"),
        (lambda model: setattr(model, "subgraphs", []), "it lacks subgraphs"),
        (lambda model: setattr(model.operatorCodes[0], "builtinCode", 10**6), "kind 0 of operators is none"),
        (lambda model: setattr(model.subgraphs[0], "inputs", [0, 0]), "a tensor is an input twice"),
        (lambda model: setattr(model.subgraphs[0], "inputs", [1]), "is an input that the file holds"),
        (lambda model: setattr(model.subgraphs[0], "outputs", []), "it has no outputs"),
        (lambda model: setattr(model.subgraphs[0], "outputs", [99]), "an output is number 99"),
        (lambda model: setattr(model.signatureDefs[0], "subgraphIndex", 1), "the subgraph of signature"),
        (lambda model: setattr(model.signatureDefs[0].inputs[0], "tensorIndex", 99), "tensor 'x' is number 99, of 8"),
        (lambda model: setattr(model.metadata[0], "buffer", 99), "the buffer of metadata 'about' is number 99"),
    ],
)
def test_what_does_not_fit_is_refused(change: Change, message: str) -> None:
    with pytest.raises(ExportError, match=message) as raised:
        check(changed(change))
    assert str(raised.value).isprintable()


def test_every_operator_that_is_written_has_its_operands() -> None:
    assert COUNTS.keys() == OPERATORS.keys()
    assert {*RANKS, *MOVES, *SAME_SHAPE} <= OPERATORS.keys()


def test_constants_are_bounded_as_they_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """A sparse tensor of few positions is dense in memory."""
    monkeypatch.setattr("export.tflite.file.semantics.SPARE_BYTES", -(2**20))
    with pytest.raises(ExportError, match="constants of more than"):
        check(small_file())
