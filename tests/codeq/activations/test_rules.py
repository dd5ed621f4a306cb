"""The rule table: one verdict per operator, arguments that are read as activations."""

import torch
from torch import Tensor, nn

from codeq.activations.rules import FLOAT, INTEGER, activations, refusal
from codeq.graph.nodes import operator_name
from codeq.graph.trace import trace


def test_an_operator_computes_in_integers_or_stays_float_by_intent() -> None:
    integer = {target.overloadpacket.__name__ for target in INTEGER}
    assert not integer & FLOAT.keys()


def test_what_is_read_as_activations_and_why_not() -> None:
    class Body(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(3, 3)

        def forward(self, x: Tensor) -> Tensor:
            y = torch.cat([self.fc(x), x + 1.0], 1)
            return y.erf()

    nodes = {operator_name(node): node for node in trace(Body(), (torch.rand(2, 3),)).graph.nodes}
    linear, add, cat = nodes["linear"], nodes["add"], nodes["cat"]
    assert [node.name for node in activations(linear)] == ["x"]
    assert activations(cat) == (linear, add)
    assert refusal(linear, lambda weight: "") == ""
    assert refusal(linear, lambda weight: f"{weight.name} is float") == "p_fc_weight is float"
    assert refusal(add, lambda weight: "") == "one operand is a number"
    assert refusal(cat, lambda weight: "") == "it moves values"
    assert refusal(nodes["erf"], lambda weight: "") == "there is no rule for it"
