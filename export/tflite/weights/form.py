"""How each weight lies in a file: in the smallest form that is asked for and that LiteRT reads exactly.

    dense   int8 codes
    csr     int8 codes without the zeros, behind a DENSIFY that LiteRT computes once, when it opens the file
    int4    two codes a byte, where all of a weight's codes are within -8 to 7

What LiteRT gets wrong is not written (measured with ai-edge-litert 2.3):

    INT4 weights on codes    convolutions round otherwise: 1 to 5 % of the results are one step off, as in linear layers
                             of an odd number of inputs; in those of an even number none is
    DENSIFY on codes         XNNPACK takes a linear layer over and then fails to prepare it; convolutions are exact
    codes of floats' layers  refuse a DENSIFY; without it linear layers compute something else. Depthwise convolutions
                             run in LiteRT's own kernels, five times slower than on floats: they read floats
    DENSIFY, DEQUANTIZE      XNNPACK takes over both, and what it does not compute, such as SIGN, then reads nothing
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from export.errors import ExportError
from export.tflite.file.graph import Form
from export.tflite.group_reasons import group_reasons
from export.tflite.weights.nibbles import LARGEST, SMALLEST, fits
from export.tflite.weights.sparse import compress

Sparse = Literal["auto", "off"]
SPARSE: tuple[Sparse, ...] = ("auto", "off")
DENSIFY_BYTES = 320
"""Of the operator, its result and the tables that say which axis is compressed; measured for four dimensions."""
DEQUANTIZE = "DEQUANTIZE"
"""Reads the codes of layers that compute on floats."""
DEQUANTIZE_FOR_OTHERS = "DEQUANTIZE for others"
"""Its floats go to operators that are no layers, or get a shift (the paper's grid) first."""
HYBRID = "hybrid "
"""In front of an operator that reads codes although its input is floats."""
HYBRID_OPERATORS = frozenset({"CONV_2D", "FULLY_CONNECTED"})
"""Those that XNNPACK computes on floats and codes."""
INT4_READERS = frozenset(
    {DEQUANTIZE, DEQUANTIZE_FOR_OTHERS, "FULLY_CONNECTED", *(f"{HYBRID}{code}" for code in HYBRID_OPERATORS)}
)
NO_HYBRID = {
    DEQUANTIZE: "LiteRT computes its layer faster on floats",
    DEQUANTIZE_FOR_OTHERS: "it has a shift (paper's grid), or is read by what is no layer",
}
"""Why codes are not read as they are, by what reads them."""


@dataclass(frozen=True)
class StoredForm:
    """The form of one weight, what reads it, its bytes with scales, and why it is not INT4 where that was asked."""

    form: Form
    reader: str
    size_bytes: int
    reason: str = ""


@dataclass(frozen=True)
class WeightForms:
    """What may be used: `sparse` where smaller, `int4` for codes of four bits; `hybrid` computes on codes."""

    sparse: Sparse = "auto"
    int4: bool = False
    hybrid: bool = False

    def choose(self, codes: np.ndarray, scales: int, reader: str, *, layers_only: bool = True) -> StoredForm:
        """The form of one weight.

        Args:
            codes: int8, in the order in which they are to lie in the file.
            scales: Their number.
            reader: The operator that reads them, `HYBRID` in front of its name where its input is floats.
            layers_only: Whether nothing but convolutions and linear layers reads the weight.
        """
        sizes: dict[Form, int] = {"dense": codes.nbytes}
        reason = _refuse_int4(codes, reader) if self.int4 else ""
        if self.int4 and not reason:
            sizes["int4"] = (codes.size + 1) // 2
        if self.sparse == "auto" and layers_only and is_exact("csr", reader):
            sizes["csr"] = compress(codes).nbytes + DENSIFY_BYTES
        form = min(sizes, key=lambda form: sizes[form])
        return StoredForm(form, reader, sizes[form] + 4 * scales, reason)


def _refuse_int4(codes: np.ndarray, reader: str) -> str:
    if not fits(codes):
        return f"codes from {codes.min()} to {codes.max()}, expected {SMALLEST} to {LARGEST} for INT4"
    if not is_exact("int4", reader):
        return f"{reader} does not compute exactly on INT4 codes"
    if reader == "FULLY_CONNECTED" and codes.shape[-1] % 2:
        return f"{reader} does not compute exactly on INT4 codes of an odd number of inputs"
    return ""


def is_exact(form: Form, reader: str) -> bool:
    """Whether an operator reads a form of weight as it should; see the module's docstring."""
    if form == "int4":
        return reader in INT4_READERS
    return form == "dense" or not (reader == "FULLY_CONNECTED" or reader.startswith(HYBRID))


def form_notes(forms: WeightForms, stored: Mapping[str, StoredForm]) -> tuple[str, ...]:
    """Which weights are not as they were asked to be, and why.

    Raises:
        ExportError: None is, so that the option did nothing.
    """
    notes = []
    if forms.hybrid:
        left = {name: NO_HYBRID[form.reader] for name, form in stored.items() if form.reader in NO_HYBRID}
        notes += _notes("hybrid", left, len(stored), "leave --hybrid out")
    if forms.int4:
        left = {name: form.reason for name, form in stored.items() if form.reason}
        way_out = "leave --int4 out, or train with --bits 4 --grid-limit 7"
        notes += _notes("int4", left, len(stored), way_out)
    return tuple(notes)


def _notes(option: str, left: Mapping[str, str], count: int, way_out: str) -> list[str]:
    if len(left) == count:
        name, reason = next(iter(left.items()), ("the network", "it has no quantized weight"))
        raise ExportError(f"--{option} does nothing here: {name}: {reason}; {way_out}")
    return [f"not {option}: {line}" for line in group_reasons(left)]
