"""What 8 bits cannot hold stays float, by name and with the reason; all else is quantized as before."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from codeq.activations.calibrate import calibrate
from codeq.activations.encoding import ActivationEncoding
from codeq.activations.guard import calibrate_guarded
from codeq.activations.plan import ActivationPlan, plan_activations
from codeq.errors import CalibrationError
from codeq.graph.canonical import canonicalize
from codeq.graph.trace import trace
from tests.cases import Net

pytestmark = pytest.mark.quick

X = torch.randn(6, 3, 6, 6, generator=torch.Generator().manual_seed(3))


def guarded(body: Callable[..., Tensor], x: Tensor = X) -> tuple[ActivationPlan, dict[str, ActivationEncoding]]:
    torch.manual_seed(0)
    layers = {name: nn.Conv2d(3, 3, 1) for name in ("a", "b", "c") if name in body.__code__.co_names}
    exported = trace(Net(body, **layers).eval(), (x[:2],))
    canonicalize(exported)
    return calibrate_guarded(exported, lambda wide: plan_activations(exported, lambda node: "", too_wide=wide), (x,))


def reasons(plan: ActivationPlan) -> dict[str, str]:
    return {layer.name: layer.reason for layer in plan.float_layers}


def test_nothing_changes_where_every_grid_serves() -> None:
    body = lambda m, x: m.c(F.relu(m.a(x)) + m.b(x))  # noqa: E731
    plan, encodings = guarded(body)
    assert plan.too_wide == {}
    torch.manual_seed(0)
    exported = trace(Net(body, a=nn.Conv2d(3, 3, 1), b=nn.Conv2d(3, 3, 1), c=nn.Conv2d(3, 3, 1)).eval(), (X[:2],))
    canonicalize(exported)
    assert encodings == calibrate(exported, plan_activations(exported, lambda node: ""), (X,))


def test_one_extreme_factor_leaves_the_product_float() -> None:
    def body(m: Any, x: Tensor) -> Tensor:
        y = F.pad(m.a(x), (2, 2, 2, 2))
        return m.b(y * torch.rsqrt(y.square().mean(1, keepdim=True) + 1e-6))

    plan, encodings = guarded(body)
    assert [layer.name for layer in plan.layers] == ["a", "b"]
    assert list(plan.too_wide) == ["rsqrt"]
    assert reasons(plan)["mul"].startswith("8 bits of rsqrt leave mul ")
    assert encodings.keys() == {"input", "a", "mul", "b"}


@pytest.mark.parametrize(("value", "found"), [(-torch.inf, "infinite values"), (-3.4e38, "values of 3.4e+38")])
def test_masked_values_that_a_layer_reads_stay_float(value: float, found: str) -> None:
    plan, _ = guarded(lambda m, x: m.b(torch.where(x > 0.5, m.a(x), value).sigmoid() * m.c(x)))
    assert plan.too_wide == {"where": f"where has {found}, which no 8 bits hold"}
    assert reasons(plan)["sigmoid"] == plan.too_wide["where"]
    assert [layer.name for layer in plan.layers] == ["a", "c", "mul", "b"]


def test_an_input_that_makes_nan_is_a_fault() -> None:
    x = X.clone()
    x[1, 0, 0, 0] = torch.inf
    with pytest.raises(CalibrationError, match=r"^\w+: the calibration inputs give NaN there; check their prepro"):
        guarded(lambda m, x: m.b(m.a(x)), x)


def test_a_layer_is_judged_behind_its_clamp() -> None:
    def body(m: Any, x: Tensor) -> Tensor:
        return m.c(m.b(m.a(x) + 1e4 * (x > 2).float()).clamp(-1, 1))  # what is extreme is cut off

    plan, _ = guarded(body)
    assert reasons(plan)["b"].startswith("8 bits of add leave b ")
    assert "add" in plan.too_wide
