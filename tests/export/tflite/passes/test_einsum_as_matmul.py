"""An einsum of two tensors is a matrix product between permutations, or is left as it is."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from codeq.graph.nodes import operator_name
from export.tflite.passes.einsum_as_matmul import assign_letters, einsum_as_matmul

pytestmark = pytest.mark.quick


@pytest.mark.parametrize(
    ("equation", "roles"),
    [
        ("bqhd,bkhd->bhqk", ("bh", "q", "k", "d")),
        ("bhqk,bkhd->bqhd", ("bh", "q", "d", "k")),
        ("ij, jk -> ik", ("", "i", "k", "j")),
        ("ij,kj->ki", ("", "i", "k", "j")),
        # Near misses: a diagonal, a sum over one operand, two rows, no sum, no result, an ellipsis.
        ("ii,ij->ij", None),
        ("ijk,jl->il", None),
        ("hij,jk->hik", None),
        ("ij,kl->ijkl", None),
        ("ij,jk", None),
        ("...ij,jk->...ik", None),
    ],
)
def test_letters_have_roles(equation: str, roles: tuple[str, ...] | None) -> None:
    found = assign_letters(equation)
    assert (None if found is None else found[3:]) == roles


class Net(nn.Module):
    def __init__(self, equation: str) -> None:
        super().__init__()
        self.equation = equation

    def forward(self, x: Tensor) -> Tensor:
        return torch.einsum(self.equation, x, 2 * x)


@pytest.mark.parametrize("equation", ["bqhd,bkhd->bhqk", "bqhd,bqhe->bhed", "bqhd,bqhd->bq"])
def test_values_are_the_same(program: Any, equation: str) -> None:
    made = program(Net(equation), (3, 4, 5))
    x = torch.randn(2, 3, 4, 5)
    before = made.exported.module()(x)
    count = einsum_as_matmul(made.exported)
    assert count == (equation != "bqhd,bqhd->bq")  # two sums and no column: not a product of matrices
    assert ("einsum" in map(operator_name, made.exported.graph.nodes)) == (not count)
    torch.testing.assert_close(made.exported.module()(x), before)
