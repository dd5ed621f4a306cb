"""Names that would end a quotation or a line of generated code are set aside, and come back."""

import pytest
import torch
from torch import nn

from codeq.graph.trace import trace
from export.program.plain_names import plain_names

NAMES = ["conv-1", "a/b", "size=3", "class", 'say "', "back\\slash", "two\nlines", "0"]


def test_code_is_made_of_plain_names_and_the_own_ones_come_back() -> None:
    model = nn.Sequential()
    for name in NAMES:
        model.add_module(name, nn.Linear(3, 3))
    exported = trace(model, (torch.rand(2, 3),))
    own = list(exported.state_dict)
    x = torch.rand(4, 3)
    with pytest.raises(SyntaxError):
        exported.module()

    def make_and_fail() -> None:
        with plain_names(exported) as renamed:
            assert [name.rpartition(".")[0] for name in renamed] == [name for name in NAMES[3:7] for _ in range(2)]
            assert torch.equal(exported.module()(x)[0], model(x))
            raise KeyError

    with pytest.raises(KeyError):
        make_and_fail()
    assert list(exported.state_dict) == own
    assert [spec.target for spec in exported.graph_signature.input_specs if spec.target] == own
