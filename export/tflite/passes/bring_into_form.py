"""Bring a program into the form that the lowerings expect: one spelling per operation, nothing computed twice."""

from codeq.graph.canonical import canonicalize, merge_equal
from export.program.program import ReferenceProgram
from export.tflite.passes.einsum_as_matmul import einsum_as_matmul
from export.tflite.passes.quantize_first import quantize_first
from export.tflite.passes.spell_out import spell_out


def bring_into_form(program: ReferenceProgram) -> None:
    """Rewrite a program, in place; a second time changes nothing. Exact up to the order of sums.

    Args:
        program: BatchNorms folded. Where activations are quantized, it was canonicalized before.
    """
    if program.activations is None:
        canonicalize(program.exported)
    spell_out(program.exported)
    einsum_as_matmul(program.exported)
    merge_equal(program.exported)
    quantize_first(program)
    program.exported.graph.eliminate_dead_code()
