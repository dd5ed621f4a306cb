"""Weights that share zero points get their own; activations keep theirs."""

import numpy as np
import onnx_ir as ir
import pytest

from export.onnx.passes.own_zero_points import own_zero_points

pytestmark = pytest.mark.quick


def initializer(name: str, array: np.ndarray) -> ir.Value:
    return ir.Value(name=name, const_value=ir.Tensor(array, name=name))


def test_each_weight_has_zero_points_of_its_own() -> None:
    shared, activation = initializer("zeros", np.zeros(2, np.int8)), initializer("zero_point_3", np.array(3, np.uint8))
    values, nodes = [shared, activation], []
    for name in ("a.weight", "b.weight"):
        codes, scale = (
            initializer(f"{name}_quantized", np.ones((2, 2), np.int8)),
            initializer(f"{name}_scale", np.ones(2)),
        )
        values += [codes, scale]
        nodes.append(ir.node("DequantizeLinear", [codes, scale, shared], outputs=[ir.Value(name=name)]))
    x, scale = ir.Value(name="x"), initializer("x_scale", np.ones(()))
    nodes.append(ir.node("DequantizeLinear", [x, scale, activation], outputs=[ir.Value(name="y")]))
    graph = ir.Graph([x], [node.outputs[0] for node in nodes], nodes=nodes, initializers=[*values, scale])
    own_zero_points(ir.Model(graph, ir_version=8))
    assert [str(node.inputs[2].name) for node in nodes if node.inputs[2]] == [
        "a.weight_zero_point",
        "b.weight_zero_point",
        "zero_point_3",
    ]
    assert "zeros" not in graph.initializers
    assert {"a.weight_zero_point", "b.weight_zero_point", "zero_point_3"} <= set(graph.initializers)
