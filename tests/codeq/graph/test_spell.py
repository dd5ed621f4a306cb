"""A node in other words computes the same, with an open batch too, and leaves a graph that runs."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from codeq.graph.nodes import GraphRunner, operator_name
from codeq.graph.spell import spell_all, word
from codeq.graph.spelled_extremes import EXTREMES_IN_OTHER_WORDS
from codeq.graph.spelled_moves import MOVES_IN_OTHER_WORDS
from codeq.graph.spelled_windows import WINDOWS_IN_OTHER_WORDS
from codeq.graph.trace import trace

aten = torch.ops.aten
SPELLINGS = {**MOVES_IN_OTHER_WORDS, **WINDOWS_IN_OTHER_WORDS, **EXTREMES_IN_OTHER_WORDS}


class Calls(nn.Module):
    def __init__(self, function: Any) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Any:
        return self.function(x)


MOVES = {
    "channel_shuffle": lambda x: torch.channel_shuffle(x, 2),
    "repeat": lambda x: x.repeat(1, 2, 1, 3),
    "repeat_interleave": lambda x: x.repeat_interleave(2, 2),
    "tensor_split": lambda x: x.tensor_split(3, 1)[1],
    "select_scatter": lambda x: torch.select_scatter(x, x[:, :, 0], 2, -1),
    "movedim": lambda x: x.movedim(1, -1),
    "narrow": lambda x: x.narrow(2, 1, 3),
    "rot90": lambda x: torch.rot90(x, -1, (1, 3)),
    "diagonal": lambda x: x.diagonal(-2, 2, 1),
    "_upsample_nearest_exact1d": lambda x: F.interpolate(x[:, 0], size=13, mode="nearest-exact"),
    "unfold": lambda x: x.unfold(3, 2, 3),
    "unfold, few": lambda x: x.unfold(-1, 5, 1),
    "unfold, patches": lambda x: x.unfold(3, 2, 2),
    "im2col, patches": lambda x: F.unfold(x, (2, 3), stride=(2, 3)),
    "im2col": lambda x: F.unfold(x, (2, 3), (2, 1), (1, 2), (1, 2)),
    "avg_pool1d": lambda x: F.avg_pool1d(x[:, 0], 3, 2, 1, True, False),
    "adaptive_avg_pool1d": lambda x: F.adaptive_avg_pool1d(x[:, 0], 3),
    "adaptive_max_pool1d": lambda x: F.adaptive_max_pool1d(x[:, 0], 4),
    "adaptive_max_pool2d": lambda x: F.adaptive_max_pool2d(x, (3, 2)),
    "adaptive_max_pool2d, even": lambda x: F.adaptive_max_pool2d(x, (1, 3)),
    "max": lambda x: x.max(2, True)[0],
    "min": lambda x: x.min(-1)[0],
    "median": lambda x: x.median(1)[0],
    "median, kept": lambda x: x.median(2, True)[0] + x.median(2, True)[1],
}


@pytest.mark.parametrize("key", MOVES)
def test_in_other_words(key: str) -> None:
    name, x = key.partition(",")[0], torch.randn(3, 4, 5, 6)
    exported = trace(Calls(MOVES[key]).eval(), (x,))
    before = [operator_name(node) for node in exported.graph.nodes]
    assert name in before
    assert spell_all(exported, SPELLINGS) == before.count(name)
    exported.graph_module.recompile()
    exported.graph.lint()
    assert name not in [operator_name(node) for node in exported.graph.nodes]
    for batch in (1, 3):
        (found,) = GraphRunner(exported).compute((x[:batch],))
        assert torch.equal(found, MOVES[key](x[:batch]))


PLACES = {
    "max": lambda x: x.max(1),
    "adaptive_max_pool2d": lambda x: F.adaptive_max_pool2d(x[:, None], (2, 3), return_indices=True)[1],
}


@pytest.mark.parametrize("name", PLACES)
def test_a_result_without_words_leaves_the_node_and_nothing_else(name: str) -> None:
    exported = trace(Calls(PLACES[name]).eval(), (torch.randn(3, 4, 5),))
    before = [node.name for node in exported.graph.nodes]
    assert spell_all(exported, SPELLINGS) == 0
    assert [node.name for node in exported.graph.nodes] == before


def test_windows_that_differ_have_no_words() -> None:
    exported = trace(Calls(lambda x: F.adaptive_avg_pool1d(x, 4)).eval(), (torch.randn(2, 3, 6),))
    assert spell_all(exported, SPELLINGS) == 0


def test_a_word_is_written_once() -> None:
    exported = trace(Calls(lambda x: x.sin()).eval(), (torch.randn(2, 3, 4, 5),))
    assert spell_all(exported, {aten.sin.default: lambda x: word(aten._upsample_nearest_exact2d.vec, x, [8, 10], None)})
    names = [operator_name(node) for node in exported.graph.nodes if node.op == "call_function"]
    assert names == ["_upsample_nearest_exact2d"]


def test_none_leaves_the_node() -> None:
    exported = trace(Calls(lambda x: x.sin() + x.cos()).eval(), (torch.randn(2, 3),))
    words = {aten.sin.default: lambda x: None, aten.cos.default: lambda x: (1 - x.sin().square()).sqrt()}
    assert spell_all(exported, words) == 1
    names = [operator_name(node) for node in exported.graph.nodes if node.op == "call_function"]
    assert names.count("sin") == 2
    assert "cos" not in names


def test_several_results() -> None:
    exported = trace(Calls(lambda x: torch.var_mean(x, 1)).eval(), (torch.randn(2, 3),))

    def words(x: Tensor, axes: Any, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        mean = x.mean(axes, keepdim=True)
        return (x - mean).square().sum(axes) / (x.shape[1] - 1), mean.squeeze(1)

    assert spell_all(exported, {aten.var_mean.dim: words}) == 1
    exported.graph_module.recompile()
    x = torch.randn(4, 3)
    found = GraphRunner(exported).compute((x,))
    for one, other in zip(found, torch.var_mean(x, 1), strict=True):
        assert torch.allclose(one, other, atol=1e-6)
