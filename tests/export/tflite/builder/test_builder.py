"""A lowering gets its parts, and what was made is handed over."""

from typing import Any

from torch import nn

from export.tflite.builder.builder import Builder
from export.tflite.builder.value import Value
from export.tflite.operators import linear
from export.tflite.passes.bring_into_form import bring_into_form
from export.tflite.weights.form import WeightForms


def test_what_was_made_is_handed_over(program: Any) -> None:
    made = program(nn.Sequential(nn.Linear(4, 3)), (4,))
    bring_into_form(made)
    forms = WeightForms(sparse="off")
    build = Builder(made, forms)
    nodes = list(made.exported.graph.nodes)
    x = next(node for node in nodes if node.op == "placeholder" and not node.meta["constant"])
    layer = next(node for node in nodes if "linear" in str(node.target))
    build.values.set(x, Value(build.writer.add_input("input", build.program.like(x, (0, 1))), (0, 1)))
    linear.lower_linear(build, layer)
    result = build.finish(channels_last_io=True, codes_io=False)
    assert [operator.code for operator in result.graph.operators] == ["DEQUANTIZE", "FULLY_CONNECTED"]
    assert list(result.weights) == list(result.stored) == ["0.weight"]
    assert (result.forms, result.channels_last_io, result.codes_io) == (forms, True, False)
    assert not result.integer
