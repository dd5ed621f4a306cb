"""Weights of a quantized program get their zero points for ONNX, and for ONNX alone."""

import torch
from torch import nn

import codeq
from export.onnx.passes.weight_zero_points import add_weight_zero_points
from export.options import Quantization
from export.program.prepare import prepare_program
from export.program.program import ReferenceProgram

X = torch.randn(6, 4, generator=torch.Generator().manual_seed(2))


def weights(program: ReferenceProgram) -> list[tuple[object, ...]]:
    """What stands behind the axis in each dequantize of a weight."""
    calls = [n for n in program.exported.graph.nodes if n.target is torch.ops.codeq.dequantize.default]
    return [n.args[4:] for n in calls if n.args[0].meta["val"].dtype is torch.int8]


def test_weights_of_one_shape_share_their_zero_points() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 3), nn.ReLU())
    codeq.attach(model, bits=4)
    codeq.freeze(model)
    program = prepare_program(model.eval(), (X,), Quantization(activations="int8")).program
    before = [output.clone() for output in program.run(X)]
    assert weights(program) == [(), (), ()]
    add_weight_zero_points(program)
    added = {name: value for name, value in program.exported.state_dict.items() if name.startswith("zero_point_int8")}
    scales = {name: value.shape for name, value in program.exported.state_dict.items() if name.endswith("scale")}
    assert len(weights(program)) == 3
    assert all(len(found) == 1 for found in weights(program))
    assert added, scales
    assert all(value.dtype is torch.int8 and not value.any() for value in added.values())
    assert len(added) < 3  # the first two are of one shape
    assert all(torch.equal(a, b) for a, b in zip(before, program.run(X), strict=True))
