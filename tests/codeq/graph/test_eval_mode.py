"""Eval mode for a while: modes come back one by one, after an error as well."""

import pytest
import torch
from torch import nn

from codeq.graph.eval_mode import eval_mode


def test_every_mode_comes_back_after_an_error() -> None:
    model = nn.Sequential(nn.Dropout(), nn.Sequential(nn.BatchNorm1d(2)))
    model[1].eval()
    before = torch.backends.mha.get_fastpath_enabled()

    def fail_within() -> None:
        with eval_mode(model):
            assert not any(module.training for module in model.modules())
            assert not torch.backends.mha.get_fastpath_enabled()
            model[1][0].train()
            raise RuntimeError("within")

    with pytest.raises(RuntimeError, match="within"):
        fail_within()
    assert [module.training for module in model.modules()] == [True, True, False, False]
    assert torch.backends.mha.get_fastpath_enabled() == before
