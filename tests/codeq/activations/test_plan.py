"""The plan: what computes in integers, what stays float and why, and which tensors share a grid."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.fx import Node

import models
from codeq.activations.plan import ActivationPlan, plan_activations
from codeq.errors import AttachError
from codeq.graph.canonical import canonicalize
from codeq.graph.nodes import state_name
from codeq.graph.trace import trace

pytestmark = pytest.mark.quick


class Net(nn.Module):
    def __init__(self, body: Callable[["Net", Tensor], Tensor]) -> None:
        super().__init__()
        self.a = nn.Conv2d(3, 3, 1)
        self.b = nn.Conv2d(3, 3, 1)
        self.c = nn.Conv2d(3, 3, 1)
        self.norm = nn.BatchNorm2d(3)
        self.body = body

    def forward(self, x: Tensor) -> Tensor:
        return self.body(self, x)


def plan(
    body: Callable[[Net, Tensor], Tensor], exclude: tuple[str, ...] = (), plain: str = "", **options: Any
) -> ActivationPlan:
    exported = trace(Net(body).eval(), (torch.rand(2, 3, 8, 8),))
    canonicalize(exported)

    def refuse_weight(node: Node) -> str:
        return "its weight is not quantized" if (state_name(exported, node) or "") == f"{plain}.weight" else ""

    return plan_activations(exported, refuse_weight, exclude=exclude, absorb_batch_norm=True, **options)


def integers(found: ActivationPlan) -> list[str]:
    return [layer.name for layer in found.layers]


def reasons(found: ActivationPlan) -> dict[str, str]:
    return {layer.name: layer.reason for layer in found.float_layers}


def larger(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=2, mode="bilinear")


def test_a_layer_absorbs_batch_norm_and_one_clamp() -> None:
    found = plan(lambda m, x: m.b(F.relu(m.norm(m.a(x)))))
    assert integers(found) == ["a", "b"]
    assert found.float_layers == ()
    assert [(node.name, name) for node, name in found.tensors.items()] == [
        ("x", "input"),
        ("relu", "a"),
        ("conv2d_1", "b"),
    ]


def test_a_clamp_with_other_readers_before_it_is_not_absorbed() -> None:
    found = plan(lambda m, x: m.b(F.relu(y := m.a(x)) + y))
    assert reasons(found) == {"relu": "it does not follow a layer in integers as its only reader"}
    assert list(found.tensors.values()) == ["input", "a", "relu", "add", "b"]


def test_cheap_operators_stay_float_at_the_end() -> None:
    found = plan(lambda m, x: m.a(x).sigmoid().mean((2, 3)))
    assert integers(found) == ["a"]
    assert reasons(found) == dict.fromkeys(found_names(found), "nothing that reads it computes in integers")
    assert set(found_names(found)) == {"sigmoid", "adaptive_avg_pool2d"}


def found_names(found: ActivationPlan) -> list[str]:
    return [layer.name for layer in found.float_layers]


def test_moves_pass_the_grid_on_and_concatenations_share_one() -> None:
    found = plan(lambda m, x: m.c(torch.cat([m.a(x)[:, :1], F.max_pool2d(m.b(x), 1)[:, :2]], 1)))
    assert integers(found) == ["a", "b", "c"]
    assert found.grids == {"input": "input", "a": "a", "b": "a", "c": "c"}


def test_a_concatenation_of_clamped_and_other_parts_has_grids_of_their_own() -> None:
    found = plan(lambda m, x: m.c(torch.cat([m.a(x)[:, :1], F.relu(m.b(x))[:, :2]], 1)))
    assert integers(found) == ["a", "b", "cat", "c"]
    assert found.grids == {name: name for name in ("input", "a", "b", "cat", "c")}


def test_a_bilinear_resize_keeps_its_operand_s_grid_and_absorbs_no_clamp() -> None:
    found = plan(lambda m, x: m.b(larger(F.relu(m.a(x)))))
    assert integers(found) == ["a", "upsample_bilinear2d", "b"]
    assert found.grids == {"input": "input", "a": "a", "upsample_bilinear2d": "a", "b": "b"}
    found = plan(lambda m, x: m.b(F.relu(larger(m.a(x)))))
    assert integers(found) == ["a", "b"]
    assert reasons(found) == {
        "upsample_bilinear2d": "nothing that reads it computes in integers",
        "relu": "it does not follow a layer in integers as its only reader",
    }


def test_a_resized_clamped_part_of_a_concatenation_starts_at_zero_too() -> None:
    found = plan(lambda m, x: m.c(torch.cat([larger(F.relu(m.a(x)))[:, :1], F.relu(m.b(larger(x)))[:, :2]], 1)))
    assert found.grids == {
        "input": "input",
        "a": "a",
        "upsample_bilinear2d": "a",
        "upsample_bilinear2d_1": "input",
        "b": "a",
        "c": "c",
    }


def test_a_batch_norm_that_is_not_folded_is_a_layer_in_float() -> None:
    exported = trace(Net(lambda m, x: m.b(F.relu(m.norm(m.a(x))))).eval(), (torch.rand(2, 3, 8, 8),))
    found = plan_activations(exported, lambda node: "")
    assert integers(found) == ["a", "b"]
    assert reasons(found)["norm"] == "it was not folded into a layer"
    assert list(found.tensors.values()) == ["input", "a", "relu", "b"]


def test_one_of_several_results_is_named_after_their_operator() -> None:
    found = plan(lambda m, x: m.b(m.a(x).sort(1)[0]))
    assert list(found.tensors.values()) == ["input", "a", "sort.0", "b"]
    assert reasons(found) == {"sort": "there is no rule for it"}


def test_concatenations_that_nothing_reads_in_integers_share_nothing() -> None:
    found = plan(lambda m, x: torch.cat([m.a(x), m.b(x)], 1))
    assert found.grids == {"input": "input", "a": "a", "b": "b"}


@pytest.mark.parametrize(
    ("body", "name", "reason"),
    [
        (lambda m, x: m.b(m.a(x) + 1.0), "add", "one operand is a number"),
        (lambda m, x: m.b(m.a(x) + torch.ones(3, 1, 1)), "add", "one operand is a constant"),
        (lambda m, x: m.b(torch.add(m.a(x), x, alpha=2)), "add", "it scales its second operand"),
        (lambda m, x: m.b(F.avg_pool2d(m.a(x), 3, 2, ceil_mode=True)), "avg_pool2d", "its last windows are cut off"),
        (lambda m, x: m.b(F.adaptive_avg_pool2d(m.a(x), 3)), "adaptive_avg_pool2d", "its windows differ in size"),
        (lambda m, x: m.b(F.softmax(m.a(x), 1)), "softmax", "8 bits lose accuracy here"),
        (lambda m, x: m.b(F.hardswish(m.a(x))), "hardswish", "there is no integer kernel for it"),
        (lambda m, x: m.b(m.a(x).erfinv()), "erfinv", "there is no rule for it"),
        (lambda m, x: m.b(m.norm(m.a(x) + x)), "norm", "it was not folded into a layer"),
    ],
)
def test_what_stays_float_and_why(body: Callable[[Net, Tensor], Tensor], name: str, reason: str) -> None:
    found = plan(body)
    assert reasons(found)[name].startswith(reason)
    assert integers(found)[0] == "a"


def test_a_weight_that_is_not_quantized() -> None:
    found = plan(lambda m, x: m.c(m.b(m.a(x))), plain="b")
    assert reasons(found) == {"b": "its weight is not quantized"}
    # What b makes is quantized all the same: c reads it.
    assert list(found.tensors.values()) == ["input", "a", "b", "c"]


@pytest.mark.parametrize("pattern", ["b", "re:[b]", "?", "conv2d", "Conv2d"])
def test_layers_are_excluded_by_name_glob_expression_and_type(pattern: str) -> None:
    found = plan(lambda m, x: F.avg_pool2d(m.b(m.a(x)) + x, 2) @ x[:, :, ::2, ::2], exclude=(pattern,))
    excluded = {"b": {"b"}, "re:[b]": {"b"}}.get(pattern, {"a", "b"})
    assert {name for name, reason in reasons(found).items() if reason == "excluded"} == excluded
    assert "add" in integers(found)


def test_a_pattern_that_matches_nothing_is_an_error() -> None:
    with pytest.raises(AttachError, match="'fc' matches no layer that could compute in integers; these are a, b"):
        plan(lambda m, x: m.b(F.gelu(m.a(x))), exclude=("fc",))


def test_what_is_made_of_constants_and_the_batch_size_is_no_layer() -> None:
    def body(m: Net, x: Tensor) -> Tensor:
        repeated = m.norm.weight.reshape(1, 3, 1, 1).expand(x.shape[0], -1, 8, 8)
        return m.b(m.a(x)) + repeated - torch.zeros(x.shape[0], 3, 8, 8)

    assert reasons(plan(body)) == {"add": "one operand is a constant", "sub": "there is no rule for it"}


@pytest.mark.parametrize(
    "zeros",
    [
        lambda x: torch.zeros(x.shape[0], 3, 8, 8),
        lambda x: torch.zeros_like(x),
        lambda x: x.new_zeros(x.shape),
        lambda x: x.new_full((x.shape[0], 1, 1, 1), 0.5).expand(-1, 3, 8, 8),
    ],
)
def test_what_depends_on_the_batch_size_alone_is_no_activation(zeros: Callable[[Tensor], Tensor]) -> None:
    found = plan(lambda m, x: m.c(m.a(x) + m.b(zeros(x))))
    assert reasons(found) == {"b": "one operand is a constant", "add": "one operand is a constant"}
    assert list(found.tensors.values()) == ["input", "a", "add", "c"]
    found = plan(lambda m, x: m.c(torch.cat([m.a(x), zeros(x)], 1)[:, :3]))
    assert list(found.tensors.values()) == ["input", "a", "cat", "c"]


def test_a_sum_that_floats_read_stays_float_unless_it_has_a_grid_already() -> None:
    def body(m: Net, x: Tensor) -> Tensor:
        return (m.a(x) + m.b(x)).softmax(1)

    assert reasons(plan(body))["add"] == "nothing that reads it computes in integers"
    assert integers(plan(body, wanted=("add",))) == ["a", "b", "add"]


WIDE = {"a": "8 bits of a leave b 3.0 dB"}


def test_a_tensor_that_8_bits_cannot_hold_keeps_its_makers_and_readers_float() -> None:
    found = plan(lambda m, x: m.c(m.b(F.relu(m.a(x))[:, :3])), too_wide=WIDE)
    assert reasons(found) == {"a": WIDE["a"], "relu": "it does not follow a layer in integers as its only reader"} | {
        "b": WIDE["a"]
    }
    assert list(found.tensors.values()) == ["b", "c"]


def test_a_layer_that_can_give_floats_makes_one_in_integers() -> None:
    found = plan(lambda m, x: m.b((x @ m.a(x)) * m.c(x)), too_wide={"matmul": "too wide"})
    assert integers(found) == ["a", "matmul", "c", "b"]
    assert reasons(found) == {"mul": "too wide"}


@pytest.mark.parametrize(
    ("name", "arguments", "layers"),
    [
        ("resnet8", {"input_size": 32}, 14),
        ("resnet18", {"input_size": 32}, 30),
        ("resnet20", {"input_size": 32}, 30),
        ("resnet50", {"input_size": 32}, 71),
        ("mobilenet_v1", {"input_size": 32}, 29),
        ("mobilenet_v2", {"input_size": 32}, 64),
        ("ds_cnn", {}, 11),
        ("fcn_1d", {}, 5),
        ("autoencoder", {}, 10),
    ],
    ids=str,
)
@pytest.mark.full
def test_everything_in_our_networks_computes_in_integers(name: str, arguments: dict[str, int], layers: int) -> None:
    model = models.create(name, **arguments).eval()
    exported = trace(model, (torch.rand(2, *model.input_shape),))  # type: ignore[misc]
    canonicalize(exported)
    found = plan_activations(exported, lambda node: "", absorb_batch_norm=True)
    assert len(found.layers) == layers
    assert found.float_layers == ()
