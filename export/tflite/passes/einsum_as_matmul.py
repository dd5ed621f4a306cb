"""Write an einsum of two tensors as a matrix product between permutations, for a runtime that has no other.

    Before: einsum("bqhd,bkhd->bhqk", q, k)
    After:  matmul(permute(q, b h q d), permute(k, b h d k))

Letters in both operands and the result are a batch, those in both operands alone are summed, and the others are the
rows and columns. Exact up to the order of sums. What has no such form (a diagonal, a sum over one operand, several rows
or columns) is left as it is, for the lowering to refuse.
"""

import torch
from torch.export import ExportedProgram
from torch.fx import Node

from codeq.graph.nodes import insert_call, replace_node

aten = torch.ops.aten


def einsum_as_matmul(exported: ExportedProgram) -> int:
    """Rewrite every einsum that is one matrix product, in place; how many there were."""
    nodes = [node for node in exported.graph.nodes if node.target is aten.einsum.default]
    return sum(_rewrite(exported, node) for node in nodes)


def _rewrite(exported: ExportedProgram, node: Node) -> bool:
    equation, operands = node.args[:2]
    assert isinstance(operands, list | tuple)
    roles = assign_letters(str(equation)) if len(operands) == 2 else None
    if roles is None:
        return False
    left, right, out, batch, row, column, summed = roles
    one, other = operands
    products = insert_call(
        node,
        aten.matmul.default,
        (
            _permute(node, one, left, batch + row + summed),  # type: ignore[arg-type]
            _permute(node, other, right, batch + summed + column),  # type: ignore[arg-type]
        ),
    )
    replace_node(exported, node, _permute(node, products, batch + row + column, out))
    return True


def assign_letters(equation: str) -> tuple[str, str, str, str, str, str, str] | None:
    """Split an equation: left, right, result, and the letters of batch, row, column and sum; None for another form.

    Examples:
        >>> assign_letters("bqhd,bkhd->bhqk")
        ('bqhd', 'bkhd', 'bhqk', 'bh', 'q', 'k', 'd')
    """
    terms, arrow, out = equation.replace(" ", "").partition("->")
    left, _, right = terms.partition(",")
    if not arrow or "." in equation or any(len(set(term)) != len(term) for term in (left, right, out)):
        return None
    batch = "".join(letter for letter in out if letter in left and letter in right)
    row = "".join(letter for letter in left if letter not in right)
    column = "".join(letter for letter in right if letter not in left)
    summed = "".join(letter for letter in left if letter in right and letter not in out)
    if len(row) != 1 or len(column) != 1 or len(summed) != 1 or set(out) != set(batch + row + column):
        return None
    return left, right, out, batch, row, column, summed


def _permute(before: Node, x: Node, letters: str, wanted: str) -> Node:
    if letters == wanted:
        return x
    return insert_call(before, aten.permute.default, (x, [letters.index(letter) for letter in wanted]))
