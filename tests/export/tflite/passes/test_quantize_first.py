"""An image is quantized before it is rearranged, where nothing else reads either."""

from typing import Any

import torch
from torch import nn

from export.tflite.passes.quantize_first import quantize_first

codeq_ops = torch.ops.codeq


def test_the_image_is_quantized_itself(program: Any) -> None:
    made = program(nn.Sequential(nn.Conv2d(3, 4, 7, stride=2, padding=3), nn.Conv2d(4, 4, 1)), (3, 12, 12), "int8")
    graph = made.exported.graph
    x = next(node for node in graph.nodes if node.op == "placeholder" and not node.meta["constant"])
    (before,) = made.run(torch.ones(2, 3, 12, 12))
    names = [node.name for node in graph.nodes]
    (moved,) = (node for node in graph.nodes if node.target is codeq_ops.space_to_depth.default)
    assert moved.args[0] is x

    quantize_first(made)
    values = moved.args[0]
    assert values.target is codeq_ops.dequantize.default
    assert values.args[0].target is codeq_ops.quantize.default
    assert values.args[0].args[0] is x
    assert values.meta["val"].shape[1:] == values.args[0].meta["val"].shape[1:] == (3, 12, 12)
    assert sorted(node.name for node in graph.nodes) == sorted(names)
    made.exported.graph_module.recompile()
    assert torch.equal(made.run(torch.ones(2, 3, 12, 12))[0], before)


def test_others_are_left_alone(program: Any) -> None:
    made = program(nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 1)), (3, 12, 12), "int8")
    before = str(made.exported.graph)
    quantize_first(made)
    assert str(made.exported.graph) == before
