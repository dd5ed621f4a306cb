"""Tensors that hooks and parametrizations compute: found, named, and baked in without a change of what is computed."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.utils import prune, remove_spectral_norm, remove_weight_norm

import codeq
from codeq.quantizer.reparametrized import bake, reparametrized
from export import ExportError, export_onnx

PARAMETRIZATIONS = nn.utils.parametrizations
OLD_WEIGHT_NORM = pytest.mark.filterwarnings("ignore:`torch.nn.utils.weight_norm` is deprecated")
KINDS: dict[str, tuple[Callable[[nn.Module], Any], str]] = {
    "prune": (lambda m: prune.l1_unstructured(m, "weight", 0.5), "torch.nn.utils.prune.remove"),
    "pruned twice": (
        lambda m: [prune.random_unstructured(m, "weight", 0.2), prune.ln_structured(m, "weight", 0.3, 2, 0)],
        "torch.nn.utils.prune.remove",
    ),
    "weight_norm": (nn.utils.weight_norm, "torch.nn.utils.remove_weight_norm"),
    "spectral_norm": (nn.utils.spectral_norm, "torch.nn.utils.remove_spectral_norm"),
    "new weight_norm": (PARAMETRIZATIONS.weight_norm, "torch.nn.utils.parametrize.remove_parametrizations"),
    "new spectral_norm": (PARAMETRIZATIONS.spectral_norm, "torch.nn.utils.parametrize.remove_parametrizations"),
}
kinds = pytest.mark.parametrize("kind", KINDS)
pytestmark = [pytest.mark.quick, OLD_WEIGHT_NORM]


def network(kind: str, layers: tuple[int, ...] = (0, 2)) -> nn.Sequential:
    model = nn.Sequential(nn.Conv2d(2, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.Flatten(), nn.Linear(4 * 16, 3))
    for index in layers:
        KINDS[kind][0](model[index])
    model(torch.randn(2, 2, 8, 8))  # a spectral norm moves on in training
    return model


@kinds
def test_attach_names_the_layer_and_the_call_that_helps(kind: str) -> None:
    model = network(kind, (0, 2, 4))
    with pytest.raises(codeq.AttachError) as raised:
        codeq.attach(model)
    call = KINDS[kind][1]
    assert str(raised.value).startswith("0.weight is computed by ")
    assert f"call {call}(model.get_submodule('0'), 'weight') first, or attach with bake=True (and 2 more)" in str(
        raised.value
    )
    assert "\n" not in str(raised.value)
    remove = {
        "prune.remove": prune.remove,
        "remove_weight_norm": remove_weight_norm,
        "remove_spectral_norm": remove_spectral_norm,
        "parametrize.remove_parametrizations": nn.utils.parametrize.remove_parametrizations,
    }[call.removeprefix("torch.nn.utils.")]
    for index in ("0", "2", "4"):
        remove(model.get_submodule(index), "weight")
    assert codeq.attach(model).quantized == ("0.weight", "2.weight", "4.weight")


@kinds
@pytest.mark.parametrize("training", [True, False])
def test_baked_layers_compute_what_they_computed(kind: str, training: bool) -> None:
    model = network(kind).train(training)
    x = torch.randn(3, 2, 8, 8)
    model.eval()
    with torch.no_grad():
        expected = model(x)
    model.train(training)
    baked = bake(model)
    assert [name.partition(" ")[0] for name in baked] == ["0.weight", "2.weight"]
    assert model[0].training == training
    assert list(reparametrized(model)) == []
    assert isinstance(model[0].weight, nn.Parameter)
    with torch.no_grad():
        torch.testing.assert_close(model.eval()(x), expected, rtol=1e-6, atol=1e-6)
    copy.deepcopy(model)


@kinds
def test_a_baked_network_is_quantized_and_exported(kind: str, tmp_path: Path) -> None:
    model = network(kind)
    report = codeq.attach(model, bake=True)
    assert report.quantized == ("0.weight", "2.weight", "4.weight")
    assert [item.partition(" ")[0] for item in report.baked] == ["0.weight", "2.weight"]
    assert str(report).splitlines()[-2].startswith("baked in: 0.weight (")
    codeq.freeze(model)
    assert export_onnx(model.eval(), torch.randn(2, 2, 8, 8), tmp_path / "net.onnx").verdict.ok


def test_nothing_to_bake_is_no_fault() -> None:
    report = codeq.attach(nn.Sequential(nn.Linear(2, 2)), bake=True)
    assert (report.baked, "baked" in str(report)) == ((), False)


def test_copies_stay_as_they_were() -> None:
    """torch keeps one class for a parametrized layer and its copies, and takes the property from all of them."""
    model = network("new weight_norm")
    other = copy.deepcopy(model)
    bake(model)
    assert [item.name for item in reparametrized(other)] == ["0.weight", "2.weight"]
    assert other(torch.randn(1, 2, 8, 8)).shape == (1, 3)


@pytest.mark.parametrize("kind", ["prune", "weight_norm"])
def test_a_plain_network_that_cannot_be_copied_is_refused_in_one_line(kind: str, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r"0\.weight is computed by .* first; the network cannot be copied") as raised:
        export_onnx(network(kind).eval(), torch.randn(2, 2, 8, 8), tmp_path / "net.onnx")
    assert "\n" not in str(raised.value)


def test_a_pruned_bias_is_refused_and_baked() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 2))
    prune.l1_unstructured(model[1], "bias", 1)
    with pytest.raises(codeq.AttachError, match=r"1\.bias is computed by torch\.nn\.utils\.prune"):
        codeq.attach(model)
    assert codeq.attach(model, bake=True).baked == ("1.bias (torch.nn.utils.prune)",)


def test_a_factory_that_reparametrizes_is_named_as_a_checkpoint_is_loaded(tmp_path: Path) -> None:
    model = network("new weight_norm")
    codeq.attach(model, bake=True)
    codeq.save(tmp_path / "a.pt", model, input_shape=(2, 8, 8))
    with pytest.raises(codeq.CheckpointError, match=r"0\.weight is computed by a parametrization \(WeightNorm\): call"):
        codeq.load(tmp_path / "a.pt", lambda: network("new weight_norm"))
