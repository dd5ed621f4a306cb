"""Which layers are quantized, and that attach, encode and detach agree."""

import copy

import pytest
import torch
from torch import Tensor, nn

import codeq
import models
from codeq.quantizer.attach import attach_each, quantized_weights

pytestmark = pytest.mark.quick


class Zoo(nn.Module):
    """One of each layer that matters to the selection."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1d = nn.Conv1d(4, 8, 3)
        self.conv2d = nn.Conv2d(4, 8, 3)
        self.conv3d = nn.Conv3d(2, 4, 3)
        self.grouped = nn.Conv2d(8, 8, 3, groups=4)
        self.depthwise = nn.Conv2d(8, 8, 3, groups=8)
        self.transposed = nn.ConvTranspose2d(8, 4, 2)
        self.linear = nn.Linear(8, 4)
        self.attention = nn.MultiheadAttention(8, 2)
        self.cross = nn.MultiheadAttention(8, 2, kdim=4, vdim=6)
        self.embedding = nn.Embedding(10, 8)
        self.batch_norm = nn.BatchNorm2d(8)
        self.layer_norm = nn.LayerNorm([8, 8])
        self.lstm = nn.LSTM(8, 8)
        self.lazy = nn.LazyLinear(3)


def test_layers_are_chosen_by_type() -> None:
    report = codeq.attach(Zoo())
    assert report.quantized == (
        "conv1d.weight",
        "conv2d.weight",
        "conv3d.weight",
        "grouped.weight",
        "depthwise.weight",
        "transposed.weight",
        "linear.weight",
        "attention.in_proj_weight",
        "attention.out_proj.weight",
        "cross.q_proj_weight",
        "cross.k_proj_weight",
        "cross.v_proj_weight",
        "cross.out_proj.weight",
    )
    assert report.skipped == {
        "embedding.weight": "Embedding is not quantized",
        "layer_norm.weight": "LayerNorm is not quantized",
        "layer_norm.bias": "LayerNorm is not quantized",
        "lstm.weight_ih_l0": "LSTM is not quantized",
        "lstm.weight_hh_l0": "LSTM is not quantized",
        "lazy.weight": "lazy: run the network once",
    }
    table = str(report)
    assert "Conv2d" in table
    assert "Embedding is not quantized" in " ".join(table.split())
    assert max(map(len, table.splitlines())) <= 100


@pytest.mark.parametrize(
    ("arguments", "warning"),
    [
        ({}, "lstm: LSTM, cells.0: GRUCell, cells.1: RNNCell weights stay float"),
        ({"exclude": ["linear", "lstm"]}, "cells.0: GRUCell, cells.1: RNNCell weights stay float"),
        ({"exclude": ["lstm.weight_*", "cells.*"]}, ""),
        ({"include": "linear"}, ""),
    ],
    ids=["all", "one_excluded", "excluded", "not_included"],
)
def test_recurrent_layers_stay_float_with_a_warning(
    arguments: dict[str, object], warning: str, caplog: pytest.LogCaptureFixture
) -> None:
    model = Zoo()
    model.cells = nn.ModuleList([nn.GRUCell(4, 4), nn.RNNCell(4, 4)])
    report = codeq.attach(model, **arguments)  # type: ignore[arg-type]
    consequence = "; CoDeQ quantizes Conv, Linear and MultiheadAttention"
    assert [record.getMessage() for record in caplog.records] == ([warning + consequence] if warning else [])
    assert {record.levelname for record in caplog.records} <= {"WARNING"}
    excluded = "exclude" in arguments
    assert report.skipped["lstm.weight_hh_l0"] == ("excluded" if excluded else "LSTM is not quantized")
    assert not {name for name in report.quantized if name.startswith(("lstm", "cells"))}


def test_a_recurrent_network_warns_by_its_type(caplog: pytest.LogCaptureFixture) -> None:
    class Net(nn.GRU):
        def __init__(self) -> None:
            super().__init__(4, 4)
            self.fc = nn.Linear(4, 4)

    codeq.attach(Net())
    assert caplog.messages == ["Net: Net weights stay float; CoDeQ quantizes Conv, Linear and MultiheadAttention"]
    with pytest.raises(codeq.AttachError, match=r"include: 'lstm' matches lstm \(LSTM\), which is not quantizable"):
        codeq.attach(Zoo(), include="lstm")


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({"include": "fc"}, {"fc.weight"}),
        ({"include": ["block1.*", "fc.weight"]}, {"block1.conv1.weight", "block1.conv2.weight", "fc.weight"}),
        ({"include": r"re:block[23]\.shortcut"}, {"block2.shortcut.weight", "block3.shortcut.weight"}),
        ({"include": "block2.*", "exclude": "re:.*conv."}, {"block2.shortcut.weight"}),
    ],
    ids=["name", "glob", "regex", "both"],
)
def test_patterns(arguments: dict[str, object], expected: set[str]) -> None:
    model = models.resnet8()
    assert set(codeq.attach(model, **arguments).quantized) == expected  # type: ignore[arg-type]
    assert {weight.name for weight in quantized_weights(model)} == expected


def test_overrides_the_later_wins() -> None:
    model = models.resnet8()
    codeq.attach(
        model,
        4,
        overrides={"block*": {"bits": 3}, "block2.conv1": {"bits": None, "max_bits": 6}, "fc": {"grid": "paper"}},
    )
    configs = {weight.name: weight.quantizer.config() for weight in quantized_weights(model)}
    assert configs["conv1.weight"]["bits"] == 4
    assert configs["block1.conv1.weight"]["bits"] == 3
    assert (configs["block2.conv1.weight"]["bits"], configs["block2.conv1.weight"]["max_bits"]) == (None, 6)
    assert configs["fc.weight"]["grid"] == "paper"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"include": "conv9"}, "include: 'conv9' matches nothing; quantizable are conv1.weight"),
        ({"exclude": ["fc", "nothing.*"]}, r"exclude: 'nothing.\*' matches nothing"),
        (
            {"overrides": {"bn1": {"bits": 8}}},
            r"overrides: 'bn1' matches bn1 \(BatchNorm2d\), which is not quantizable",
        ),
        ({"overrides": {"fc": {"bitz": 8}}}, "override 'fc' has bitz, expected bits, max_bits"),
        ({"include": "re:("}, r"'re:\(' is not a regular expression"),
        ({"exclude": "*"}, "leave no layer to quantize"),
    ],
)
def test_selections_that_do_not_fit(arguments: dict[str, object], message: str) -> None:
    model = models.resnet8()
    with pytest.raises(codeq.AttachError, match=message):
        codeq.attach(model, **arguments)  # type: ignore[arg-type]
    assert not list(quantized_weights(model))


def test_networks_that_cannot_be_attached() -> None:
    with pytest.raises(codeq.AttachError, match="ReLU has no layer to quantize"):
        codeq.attach(nn.ReLU())
    model = models.resnet8()
    codeq.attach(model)
    with pytest.raises(codeq.AttachError, match="has quantizers already"):
        codeq.attach(model)
    with pytest.raises(codeq.AttachError, match="no quantizable weight bn1"):
        attach_each(models.resnet8(), {"bn1.weight": {}})
    with pytest.raises(ValueError, match="bits must be 2 to 8"):
        codeq.attach(models.resnet8(), 1)


def test_encode_is_what_the_layers_compute_with() -> None:
    model = models.resnet8()
    codeq.attach(model, 4)
    encodings = codeq.encode(model)
    assert next(iter(encodings)) == "conv1.weight"
    assert torch.equal(encodings["block2.conv1.weight"].dequantize(), model.block2.conv1.weight)


def test_encode_names_the_weight_that_is_not_finite() -> None:
    model = models.resnet8()
    codeq.attach(model)
    with torch.no_grad():
        model.block1.conv2.parametrizations.weight.original[0, 0, 0, 0] = float("nan")
    with pytest.raises(ValueError, match=r"^block1\.conv2\.weight: .*NaN"):
        codeq.encode(model)


def test_detach_gives_a_plain_network_of_the_same_function() -> None:
    model = models.resnet8().eval()
    codeq.attach(model)
    x = torch.randn(2, 3, 32, 32)
    expected = model(x)
    assert codeq.detach(model) is model
    assert set(model.state_dict()) == set(models.resnet8().state_dict())
    assert type(model.conv1) is nn.Conv2d
    assert torch.equal(model(x), expected)


def test_detach_of_a_copy_leaves_the_original() -> None:
    # torch's parametrization shares one class between copies, and removing it from one used to break the other.
    model = models.resnet8().eval()
    codeq.attach(model)
    x = torch.randn(2, 3, 32, 32)
    expected = model(x)
    plain = codeq.detach(copy.deepcopy(model))
    assert torch.equal(plain(x), expected)
    assert torch.equal(model(x), expected)


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Linear(6, 6, bias=False)
        self.decoder = nn.Linear(6, 6, bias=False)
        self.decoder.weight = self.encoder.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.decoder(self.encoder(x))


def test_tied_weights_share_one_quantizer_and_stay_tied() -> None:
    model = Tied()
    codeq.attach(model, 4)
    first, second = quantized_weights(model)
    assert first.quantizer is second.quantizer
    assert first.original is second.original
    expected = model(torch.eye(6))
    codeq.detach(model)
    assert model.encoder.weight is model.decoder.weight
    assert torch.equal(model(torch.eye(6)), expected)


def test_attention_computes_with_quantized_projections() -> None:
    attention = nn.MultiheadAttention(8, 2, batch_first=True).eval()
    codeq.attach(attention, 2)
    x = torch.randn(1, 5, 8)
    quantized, _ = attention(x, x, x)
    codeq.enable(attention, False)
    plain, _ = attention(x, x, x)
    assert not torch.allclose(quantized, plain)
    codeq.enable(attention)
    assert torch.equal(attention(x, x, x)[0], quantized)


def test_collapsed_names_the_layers_that_the_guard_holds(caplog: pytest.LogCaptureFixture) -> None:
    model = models.resnet8()
    codeq.attach(model)
    model.fc.parametrizations.weight[0].theta_dz.data.fill_(0.1)
    assert codeq.collapsed(model) == ["fc.weight"]
    with caplog.at_level("WARNING"):
        codeq.freeze(model)
    assert "the collapse guard holds the dead zone of fc.weight" in caplog.text


def test_detach_leaves_a_layer_that_shares_the_parameter_unquantized() -> None:
    class TiedEmbedding(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embedding, self.head = nn.Embedding(9, 6), nn.Linear(6, 9, bias=False)
            self.head.weight = self.embedding.weight

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.embedding(x))

    model = TiedEmbedding()
    codeq.attach(model, 3)
    x = torch.arange(9)
    expected = model(x)
    assert torch.equal(codeq.detach(model)(x), expected)
    assert not torch.equal(model.head.weight, model.embedding.weight)


def test_detach_quantizes_even_where_quantizers_are_switched_off() -> None:
    model = models.resnet8()
    codeq.attach(model)
    expected = model.fc.weight.clone()
    codeq.enable(model, False)
    assert torch.equal(codeq.detach(model).fc.weight, expected)


def test_a_bad_override_leaves_the_network_as_it_was() -> None:
    model = models.resnet8()
    with pytest.raises(ValueError, match="bits must be 2 to 8"):
        codeq.attach(model, overrides={"fc": {"bits": 99}})
    assert not list(quantized_weights(model))
    with pytest.raises(codeq.AttachError, match=r"encoder\.weight and decoder\.weight are one parameter"):
        codeq.attach(Tied(), overrides={"encoder": {"bits": 2}})


def test_foreign_parametrizations_are_listed() -> None:
    model = nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(8, 8)), nn.Linear(8, 4))
    report = codeq.attach(model)
    assert report.quantized == ("1.weight",)
    assert report.skipped["0.weight"] == "it has another parametrization; attach with bake=True"
