"""A mean of codes becomes a pool of the same codes; one in float stays a mean."""

import pytest
import torch
from torch import nn

import codeq
from codeq.graph.nodes import operator_name
from export.onnx.passes.pool_means import pool_means
from export.options import Quantization
from export.program.prepare import prepare_program
from export.program.program import ReferenceProgram
from export.reference.machine import Codes, IntegerReference
from export.reference.onnxruntime import ONNXRUNTIME
from tests.cases import Body, Net

X = torch.randn(6, 4, 5, 3, generator=torch.Generator().manual_seed(2))


def program_of(body: Body) -> ReferenceProgram:
    torch.manual_seed(0)
    model = Net(body, one=nn.Linear(3, 3), out=nn.Linear(3, 2))
    codeq.attach(model, bits=4)
    codeq.freeze(model)
    return prepare_program(model.eval(), (X,), Quantization(activations="int8")).program


def operators(program: ReferenceProgram) -> list[str]:
    return [operator_name(node) for node in program.exported.graph.nodes if operator_name(node)]


@pytest.mark.parametrize(
    ("body", "axes"),
    [
        (lambda m, x: m.out(m.one(x).mean(1)), "permute"),
        (lambda m, x: m.out(m.one(x).mean(2, keepdim=True)).flatten(1), "permute"),
        (lambda m, x: m.out(m.one(x).transpose(1, 3).mean(-1).transpose(1, 2)).flatten(1), "transpose"),
    ],
)
def test_a_mean_of_codes_becomes_a_pool_of_the_same_codes(body: Body, axes: str) -> None:
    program = program_of(body)
    before = IntegerReference(program, ONNXRUNTIME).outputs(X)
    assert pool_means(program) == 1
    found = operators(program)
    assert "mean" not in found
    assert found[found.index("adaptive_avg_pool2d") - 1] == "reshape"
    assert axes in found
    for one, other in zip(before, IntegerReference(program, ONNXRUNTIME).outputs(X), strict=True):
        assert torch.equal(one, other)
    assert pool_means(program) == 0


@pytest.mark.parametrize(
    "body",
    [
        lambda m, x: m.out(m.one(x).mean((1, 2))),
        lambda m, x: m.out(x[:, 0]) + m.one(x).mean(1)[..., :2],
    ],
)
def test_other_means_stay(body: Body) -> None:
    program = program_of(body)
    assert pool_means(program) == 0
    assert "mean" in operators(program)


def test_the_reference_of_a_mean_by_hand() -> None:
    # Codes 10, 11, 14 of scale 0.5 around 8 have the mean (2 + 3 + 6) / 3 * 0.5; in steps of 0.25 it is 7.33.
    graph = program_of(lambda m, x: m.out(m.one(x).mean(1))).exported.graph
    mean = next(node for node in graph.nodes if operator_name(node) == "mean")
    x = Codes(torch.tensor([[10.0, 11.0, 14.0]]) - 8, torch.tensor(0.5), 8.0)
    pending = ONNXRUNTIME.kernels[torch.ops.aten.mean.dim](mean, x, [1])
    assert pending.steps(torch.tensor(0.25), 0.0).tolist() == pytest.approx([22 / 3])
    assert pending.real().tolist() == pytest.approx([11 / 6])
