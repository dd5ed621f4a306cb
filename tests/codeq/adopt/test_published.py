"""State_dicts under the published names become networks of ours with the published operator's values, bit for bit."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import codeq
from codeq.adopt.published import is_published
from codeq.quantizer.attach import quantized_weights
from tests.codeq.adopt.others import Published, publish

BITS = (2, 3, 4, 5, 6, 7, 8, None)
State = dict[str, Tensor]


def network() -> nn.Sequential:
    torch.manual_seed(1)
    return nn.Sequential(
        nn.Conv2d(3, 16, 3, bias=False), nn.BatchNorm2d(16), nn.ReLU(), nn.Flatten(), nn.LayerNorm(16), nn.Linear(16, 5)
    )


def published(*quantizers: Published) -> nn.Module:
    theirs = publish(network(), *quantizers)
    theirs(torch.randn(32, 3, 3, 3))  # BatchNorm's statistics
    return theirs.eval()


def weight(model: nn.Module, layer: int) -> Tensor:
    found: Tensor = model[layer].weight.detach()  # type: ignore[index]
    return found


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("logit_dz", [3.0, -0.6, 0.1])
def test_values_are_theirs_bit_for_bit(bits: int | None, logit_dz: float) -> None:
    theirs = published(Published(bits, logit_dz, logit_bit=0.4))
    ours = network()
    report = codeq.from_published(ours, theirs.state_dict())
    for layer in (0, 1, 4, 5):
        assert torch.equal(weight(ours, layer), weight(theirs, layer))
    width = bits or 4  # round(6 tanh(0.4) + 2)
    assert [(row.name, row.bits, row.grid) for row in report.weights] == [
        ("0.weight", width, "paper"),
        ("5.weight", width, "paper"),
    ]
    assert report.exact
    assert report.baked == ("1.weight (BatchNorm2d)", "4.weight (LayerNorm)")
    x = torch.randn(4, 3, 3, 3)
    assert torch.equal(ours.eval()(x), theirs(x))


def test_float_weights_and_thetas_are_kept_for_more_training() -> None:
    theirs = published(Published(None, -1.5, logit_bit=0.7))
    ours = network()
    codeq.from_published(ours, theirs.state_dict())
    for quantized in quantized_weights(ours):
        quantizer = quantized.quantizer
        assert quantizer.theta_bit is not None
        assert (float(quantizer.theta_dz), float(quantizer.theta_bit)) == (-1.5, pytest.approx(0.7))
        original = theirs.state_dict()[quantized.name.replace("weight", "parametrizations.weight.original")]
        assert torch.equal(quantized.original, original)
        assert bool(quantizer.frozen)


def test_a_weight_in_the_middle_of_two_levels_goes_where_theirs_goes() -> None:
    """Theirs divides by the step, ours multiplies: beside a middle some weights come out apart, and are moved."""
    torch.manual_seed(0)
    theirs = publish(nn.Sequential(nn.Linear(200, 200)), Published(8, 3.0))
    made = theirs[0].parametrizations.weight  # type: ignore[index,union-attr]
    with torch.no_grad():
        w = made.original.flatten().abs()  # type: ignore[union-attr,operator]
        half = float(w.max()) / 2
        levels = made[0](w).unique()
        near = (levels[1:] + levels[:-1]) / 2
        near = torch.cat([near.view(torch.int32) + ulps for ulps in range(-4, 5)]).view(torch.float32)
        near = near[near < half]  # so that the range stays
        w[torch.nonzero(w < half)[: len(near), 0]] = near
        made.original.copy_(w.reshape(200, 200))  # type: ignore[union-attr,operator]
    ours = nn.Sequential(nn.Linear(200, 200))
    codeq.from_published(ours, theirs.state_dict())
    assert torch.equal(weight(ours, 0), weight(theirs, 0))
    (quantized,) = quantized_weights(ours)
    moved = quantized.original.flatten() != w
    assert 0 < moved.sum() <= len(near)


@pytest.mark.parametrize(
    ("bits", "logit_dz", "most"),
    [(2, 1.2, 0.0), (4, 1.2, 0.1), (8, 1.2, 0.75), (8, 0.3, 2.0), (6, 0.1, 2.5)],
    ids=["2", "4", "8: fewer levels fit", "8: a third of them", "6: a wide dead zone"],
)
def test_snapped_they_are_on_the_integer_grid(bits: int, logit_dz: float, most: float) -> None:
    theirs = published(Published(bits, logit_dz))
    ours, exact = network(), network()
    codeq.from_published(exact, theirs.state_dict())
    steps = codeq.encode(exact)
    report = codeq.from_published(ours, theirs.state_dict(), snap=True)
    for row in report.weights:
        encoding = codeq.encode(ours)[row.name]
        assert encoding.shift is None
        value, wanted = encoding.dequantize(), weight(theirs, int(row.name[0]))
        assert torch.equal(weight(ours, int(row.name[0])), value)
        assert torch.equal(value == 0, wanted == 0)
        step = float(steps[row.name].scale)
        assert row.steps_off == pytest.approx(float((value - wanted).abs().max()) / step, rel=1e-2, abs=1e-5)
        assert row.steps_off <= most
    assert report.exact == (bits == 2)


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "module._orig_mod."])
def test_prefixes_of_wrappers_are_taken_away(prefix: str) -> None:
    theirs = published(Published(4))
    ours = network()
    codeq.from_published(ours, {prefix + name: value for name, value in theirs.state_dict().items()})
    assert torch.equal(weight(ours, 0), weight(theirs, 0))


def without(name: str) -> Callable[[State], Any]:
    return lambda state: state.pop(name)


def with_value(name: str, value: Tensor) -> Callable[[State], Any]:
    return lambda state: state.update({name: value})


PREFIX = "0.parametrizations.weight."
BAD: dict[str, tuple[Callable[[State], Any], str]] = {
    "a key": (without(f"{PREFIX}0.quantizer.max_bits"), f"state_dict: lacks {PREFIX}0.quantizer.max_bits"),
    "a weight": (without(f"{PREFIX}original"), f"state_dict: lacks {PREFIX}original"),
    "a bias": (without("5.bias"), "does not fit Sequential: 1 missing: 5.bias, 0 unknown"),
    "a layer more": (with_value("9.weight", torch.ones(2)), "0 missing, 1 unknown: 9.weight"),
    "a shape": (
        with_value(f"{PREFIX}original", torch.randn(16, 4, 3, 3)),
        "0.weight (16, 4, 3, 3), expected (16, 3, 3, 3)",
    ),
    "NaN": (
        with_value(f"{PREFIX}original", torch.full((16, 3, 3, 3), torch.nan)),
        f"{PREFIX}original has NaN or infinite entries",
    ),
    "a logit": (
        with_value(f"{PREFIX}0.quantizer.logit_dz", torch.tensor(torch.nan)),
        "logit_dz has the value nan, expected a number",
    ),
    "a logit's shape": (
        with_value(f"{PREFIX}0.quantizer.logit_dz", torch.zeros(3)),
        "logit_dz has shape (3,), expected a number",
    ),
    "bits": (
        with_value(f"{PREFIX}0.quantizer.fixed_bit", torch.tensor(16.0)),
        "0.weight has 16 bits, expected a whole number from 2 to 8",
    ),
    "a dtype": (
        with_value(f"{PREFIX}original", torch.randn(16, 3, 3, 3).half()),
        "is torch.float16, expected torch.float32",
    ),
    "a bias of NaN": (with_value("5.bias", torch.full((5,), torch.nan)), "5.bias has NaN or infinite entries"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_does_not_fit_is_one_line_and_changes_nothing(case: str) -> None:
    spoil, message = BAD[case]
    state = dict(published(Published(4)).state_dict())
    spoil(state)
    ours = network()
    before = {name: value.clone() for name, value in ours.state_dict().items()}
    with pytest.raises(codeq.CheckpointError, match=re.escape(message)) as caught:
        codeq.from_published(ours, state)
    assert "\n" not in str(caught.value)
    after = ours.state_dict()
    assert list(after) == list(before)
    assert all(torch.equal(after[name], value) for name, value in before.items())


def test_other_state_dicts_and_attached_networks_are_refused() -> None:
    with pytest.raises(codeq.CheckpointError, match=r"has no X\.parametrizations.* codeq\.recover"):
        codeq.from_published(network(), network().state_dict())
    attached = network()
    codeq.attach(attached)
    with pytest.raises(codeq.AttachError, match="has quantizers already"):
        codeq.from_published(attached, published(Published(4)).state_dict())
    assert not is_published(attached.state_dict())
    assert is_published(published(Published(4)).state_dict())


class Tied(nn.Module):
    def __init__(self, *, tied: bool) -> None:
        super().__init__()
        self.embedding, self.head = nn.Embedding(8, 4), nn.Linear(4, 8, bias=False)
        if tied:
            self.head.weight = self.embedding.weight


def test_a_parameter_of_two_layers_is_taken_where_both_have_one_value() -> None:
    theirs = publish(Tied(tied=False), Published(4, 0.9))
    state = dict(theirs.state_dict())
    state["head.parametrizations.weight.original"] = state["embedding.parametrizations.weight.original"]
    ours = Tied(tied=True)
    codeq.from_published(ours, state)
    assert torch.equal(ours.head.weight, ours.embedding.weight)
    assert torch.equal(ours.head.weight, theirs.embedding.weight)  # type: ignore[arg-type]
    state["head.parametrizations.weight.0.quantizer.logit_dz"] = torch.tensor(2.0)
    with pytest.raises(codeq.CheckpointError, match=r"embedding\.weight and head\.weight are one parameter of Tied"):
        codeq.from_published(Tied(tied=True), state)


@pytest.mark.slow("eight layers are exported to both kinds of file")
def test_state_dict_to_files_at_every_bit_width(tmp_path: Path) -> None:
    """Weights in the files are the published operator's: held to our network's, which equal theirs."""
    from export import export_onnx, export_tflite

    def build() -> nn.Sequential:
        torch.manual_seed(2)
        layers = [nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten()]
        return nn.Sequential(*layers, *(nn.Linear(32, 32) for _ in BITS))

    theirs = publish(build(), *(Published(bits, 0.8, 0.6) for bits in (4, 5, *BITS)))
    theirs(torch.randn(32, 3, 4, 4))
    torch.save(theirs.eval().state_dict(), tmp_path / "published.pt")
    ours = build().eval()
    report = codeq.from_published(ours, torch.load(tmp_path / "published.pt", weights_only=True))
    assert {row.bits for row in report.weights} == set(range(2, 9))
    for layer in (0, 1, *range(4, 4 + len(BITS))):
        assert torch.equal(weight(ours, layer), weight(theirs, layer))
    x = torch.randn(4, 3, 4, 4)
    expected = theirs(x).detach()
    assert torch.allclose(ours(x), expected, atol=1e-6)
    for exported in (export_onnx(ours, (x,), tmp_path / "a.onnx"), export_tflite(ours, (x,), tmp_path / "a.tflite")):
        checks = exported.verdict.weights
        assert len(checks) == 1 + len(BITS)
        assert exported.verdict.ok, exported.verdict
        assert all(check.ok for check in checks)
