"""Each weight lies in a file in the smallest form that is asked for and that LiteRT reads exactly.

    dense   int8 codes
    csr     int8 codes without the zeros, behind a DENSIFY that LiteRT computes once, when it opens the file
    int4    two codes a byte, where all of a weight's codes are within -8 to 7

What LiteRT gets wrong is not written (measured with ai-edge-litert 2.3):

    INT4 weights on codes    convolutions round otherwise: 1 to 5 % of the results are one step off, as in linear layers
                             of an odd number of inputs; in those of an even number none is
    DENSIFY on codes         XNNPACK takes a linear layer over and then fails to prepare it; convolutions are exact
    codes, float inputs      a DENSIFY is refused; without it linear layers compute something else. Depthwise
                             convolutions run in LiteRT's own kernels, five times slower than on floats: these
                             layers read floats
    DENSIFY, DEQUANTIZE      XNNPACK takes over both, and what it does not compute, such as SIGN, then reads nothing
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from export.errors import ExportError
from export.tflite.file.graph import Form
from export.tflite.file.nibbles import LARGEST, SMALLEST, fits
from export.tflite.file.sparse import compress
from export.tflite.group_reasons import group_reasons
from export.tflite.options import Sparse

DENSIFY_BYTES = 320
"""They go to the operator, its result and the tables that say which axis is compressed (measured, four dimensions)."""
DEQUANTIZE = "DEQUANTIZE"
HYBRID_OPERATORS = frozenset({"CONV_2D", "FULLY_CONNECTED"})
"""Those that XNNPACK computes on floats and codes."""
INT4_OPERATORS = frozenset({DEQUANTIZE, "FULLY_CONNECTED"})
"""Those that compute exactly on codes of four bits, besides hybrid ones."""
FASTER_ON_FLOATS = "LiteRT computes its layer faster on floats"
NO_LAYER_ALONE = "it has a shift (paper's grid), or is read by what is no layer"


@dataclass(frozen=True)
class Reader:
    """Says what reads the codes of a weight.

    Attributes:
        operator: By the schema's name; DEQUANTIZE where a layer computes on floats.
        hybrid: The operator reads codes although its input is floats.
        layers_only: What they become goes to convolutions and linear layers alone, without a shift (the paper's grid)
            in between.
    """

    operator: str
    hybrid: bool = False
    layers_only: bool = True

    def __str__(self) -> str:
        """Name the reader as reports do."""
        if self.hybrid:
            return f"hybrid {self.operator}"
        return self.operator if self.layers_only or self.operator != DEQUANTIZE else f"{self.operator} for others"


FLOATS = Reader(DEQUANTIZE)
"""Reads the codes of layers that compute on floats."""


@dataclass(frozen=True)
class StoredForm:
    """Holds the form of one weight, what reads it, its bytes with scales, and why it is not INT4 if that was asked."""

    form: Form
    reader: Reader
    size_bytes: int
    reason: str = ""


@dataclass(frozen=True)
class WeightForms:
    """Says what may be used: `sparse` where smaller, `int4` for codes of four bits; `hybrid` computes on codes."""

    sparse: Sparse = "auto"
    int4: bool = False
    hybrid: bool = False

    def choose(self, codes: np.ndarray, scales: int, reader: Reader) -> StoredForm:
        """Choose the form of one weight.

        Args:
            codes: int8, in the order in which they are to lie in the file.
            scales: Their number.
            reader: What reads them.
        """
        sizes: dict[Form, int] = {"dense": codes.nbytes}
        reason = _refuse_int4(codes, reader) if self.int4 else ""
        if self.int4 and not reason:
            sizes["int4"] = (codes.size + 1) // 2
        # DENSIFY of nothing but zeros cannot be opened: its buffer would be empty.
        if self.sparse == "auto" and reader.layers_only and is_exact("csr", reader) and codes.any():
            sizes["csr"] = compress(codes).nbytes + DENSIFY_BYTES
        form = min(sizes, key=lambda form: sizes[form])
        return StoredForm(form, reader, sizes[form] + 4 * scales, reason)


def _refuse_int4(codes: np.ndarray, reader: Reader) -> str:
    if not fits(codes):
        return f"codes from {codes.min()} to {codes.max()}, expected {SMALLEST} to {LARGEST} for INT4"
    if not is_exact("int4", reader):
        return f"{reader} does not compute exactly on INT4 codes"
    if reader.operator == "FULLY_CONNECTED" and not reader.hybrid and codes.shape[-1] % 2:
        return f"{reader} does not compute exactly on INT4 codes of an odd number of inputs"
    return ""


def is_exact(form: Form, reader: Reader) -> bool:
    """Tell whether an operator reads a form of weight as it should; see the module's docstring."""
    if form == "int4":
        return reader.hybrid or reader.operator in INT4_OPERATORS
    return form == "dense" or not (reader.hybrid or reader.operator == "FULLY_CONNECTED")


def form_notes(forms: WeightForms, stored: Mapping[str, StoredForm]) -> tuple[str, ...]:
    """Say which weights are not as they were asked to be, and why.

    Raises:
        ExportError: None is, so that the option did nothing.
    """
    notes = []
    if forms.hybrid:
        left = {name: _refuse_hybrid(form.reader) for name, form in stored.items() if not form.reader.hybrid}
        notes += _notes("hybrid", left, len(stored), "leave --hybrid out")
    if forms.int4:
        left = {name: form.reason for name, form in stored.items() if form.reason}
        way_out = "leave --int4 out, or train with --bits 4 --grid-limit 7"
        notes += _notes("int4", left, len(stored), way_out)
    return tuple(notes)


def _refuse_hybrid(reader: Reader) -> str:
    return FASTER_ON_FLOATS if reader.layers_only else NO_LAYER_ALONE


def _notes(option: str, left: Mapping[str, str], count: int, way_out: str) -> list[str]:
    if len(left) == count:
        name, reason = next(iter(left.items()), ("the network", "it has no quantized weight"))
        raise ExportError(f"--{option} does nothing here: {name}: {reason}; {way_out}")
    return [f"not {option}: {line}" for line in group_reasons(left)]
