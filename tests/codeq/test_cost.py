"""Costs of small networks, counted by hand."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import codeq
from codeq.quantizer.attach import quantized_weights

pytestmark = pytest.mark.quick


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 4, 3, padding=1)
        self.depthwise = nn.Conv2d(4, 4, 3, stride=2, padding=1, groups=4)
        self.up = nn.ConvTranspose2d(4, 2, 2, stride=2)
        self.fc = nn.Linear(2 * 64, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.up(self.depthwise(self.conv(x))).flatten(1))


def test_macs_by_hand() -> None:
    summary = codeq.summary(Net(), (2, 8, 8))
    assert {layer.name: layer.macs for layer in summary.layers} == {
        "conv.weight": 8 * 8 * 4 * 2 * 9,
        "depthwise.weight": 4 * 4 * 4 * 9,
        "up.weight": 4 * 4 * 4 * 2 * 4,
        "fc.weight": 128 * 5,
    }
    assert summary.relative_bops == 1
    assert summary.sparsity == 0
    assert summary.entropy_bytes == 4 * summary.numel


def test_bops_and_zeros_of_a_quantized_layer() -> None:
    model = Net()
    codeq.attach(model, 4, overrides={"fc": {"bits": 8}}, exclude="up")
    with torch.no_grad():
        for weight in quantized_weights(model):
            weight.quantizer.theta_dz.fill_(0.6)
    encodings = codeq.encode(model)
    summary = codeq.summary(model, (2, 8, 8))
    bops = 0.0
    for layer in summary.layers:
        encoding = encodings.get(layer.name)
        density = 1.0 if encoding is None else float((encoding.codes != 0).float().mean())
        bits = 32 if encoding is None else encoding.bit_width
        assert layer.weight_bits == bits
        assert layer.bops == pytest.approx(density * layer.macs * bits * 32)
        bops += layer.bops
    assert summary.relative_bops == pytest.approx(bops / (summary.macs * 32 * 32))
    assert 0.3 < summary.sparsity < 0.9
    assert summary.to_dict()["total"]["bops"] == pytest.approx(bops)
    text = str(summary)
    assert f"relative BOPs {summary.relative_bops:.2%}" in text
    assert max(map(len, text.splitlines())) <= 100


class Twice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(6, 6)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.fc(x))


def test_a_layer_called_twice_counts_twice_and_stores_once() -> None:
    summary = codeq.summary(Twice(), (6,))
    assert [(layer.macs, layer.numel) for layer in summary.layers] == [(72, 36)]


def test_a_shared_weight_is_stored_once_and_counts_for_every_layer() -> None:
    model = nn.Sequential(nn.Linear(6, 6), nn.ReLU(), nn.Linear(6, 6))
    model[2].weight = model[0].weight
    codeq.attach(model)
    assert [(layer.name, layer.macs) for layer in codeq.summary(model, (6,)).layers] == [("0.weight", 72)]


class Merged(nn.Module):
    """A super-resolution block as it is deployed: no layer is called, two kernels are one."""

    def __init__(self) -> None:
        super().__init__()
        self.wide, self.narrow = nn.Conv2d(4, 4, 3), nn.Conv2d(4, 4, 1)
        self.norm, self.head = nn.BatchNorm2d(4), nn.Linear(4, 2)
        self.query = nn.Parameter(torch.rand(1, 4))

    def forward(self, x: Tensor) -> Tensor:
        kernel = self.wide.weight + F.pad(self.narrow.weight, (1, 1, 1, 1)) * self.norm.weight.reshape(-1, 1, 1, 1)
        x = F.conv2d(x, kernel, self.wide.bias, padding=1)
        x = F.conv2d(input=x, weight=self.narrow.weight)
        pooled = x.mean((2, 3)) @ self.head.weight.t()
        return torch.matmul(pooled + self.head(self.query), self.head.weight)


@pytest.mark.parametrize("attached", [False, True])
def test_weights_that_are_used_without_their_layer_count(attached: bool) -> None:
    model = Merged()
    if attached:
        codeq.attach(model)
    macs = {layer.name: layer.macs for layer in codeq.summary(model, (4, 6, 5)).layers}
    pixels = 6 * 5
    assert macs == {
        "wide.weight": pixels * 4 * 4 * 9,
        "narrow.weight": pixels * 4 * 4,
        "head.weight": 4 * 2 + 4 * 2 + 2 * 4,
    }


def test_counting_leaves_buffers_alone() -> None:
    class Counts(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            self.calls += 1
            return super().forward(x)

    model = Counts(3, 3)
    model.register_buffer("calls", torch.zeros(()))
    codeq.summary(model, (3,))
    assert model.calls == 0


class Attention(nn.Module):
    def __init__(self, **options: int) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True, **options)
        self.memory = nn.Linear(8, 8 if not options else options["kdim"])
        self.unused = nn.Linear(3, 3)

    def forward(self, x: Tensor) -> Tensor:
        memory = self.memory(x)[:, :3]
        result: Tensor = self.attention(query=x, key=memory, value=memory)[0]
        return result


@pytest.mark.parametrize(
    ("options", "projections"),
    [
        ({}, {"attention.in_proj_weight": (5 + 3 + 3) * 8 * 8}),
        (
            {"kdim": 6, "vdim": 6},
            {
                "attention.q_proj_weight": 5 * 8 * 8,
                "attention.k_proj_weight": 3 * 6 * 8,
                "attention.v_proj_weight": 3 * 6 * 8,
            },
        ),
    ],
    ids=["packed", "separate"],
)
def test_attention_counts_its_projections(options: dict[str, int], projections: dict[str, int]) -> None:
    model = Attention(**options)
    codeq.attach(model)
    summary = codeq.summary(model, (5, 8))
    memory = {"memory.weight": 5 * 8 * (options.get("kdim", 8))}
    # Every weight is listed: those that no hook sees, and those that this forward pass does not call.
    expected = projections | {"attention.out_proj.weight": 5 * 8 * 8, "unused.weight": 0} | memory
    assert {layer.name: layer.macs for layer in summary.layers} == expected
    assert all(layer.weight_bits == 4 for layer in summary.layers)


class Cells(nn.Module):
    """A cell that is called once per step; 4 gates of 5 units, 3 inputs."""

    def __init__(self) -> None:
        super().__init__()
        self.cell = nn.LSTMCell(3, 5)

    def forward(self, x: Tensor) -> Tensor:
        state = (x.new_zeros(len(x), 5), x.new_zeros(len(x), 5))
        for step in x.unbind(1):
            state = self.cell(step, state)
        return state[0]


class Packed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.RNN(3, 5, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        lengths = torch.full((len(x),), 4)
        return self.rnn(nn.utils.rnn.pack_padded_sequence(x, lengths, batch_first=True))[1]


STEPS = 7
RECURRENT: dict[str, tuple[nn.Module, dict[str, int]]] = {
    "gru": (
        nn.GRU(3, 5, num_layers=2, bidirectional=True, batch_first=True),
        {
            "weight_ih_l0": STEPS * 3 * 5 * 3,
            "weight_hh_l0": STEPS * 3 * 5 * 5,
            "weight_ih_l0_reverse": STEPS * 3 * 5 * 3,
            "weight_hh_l0_reverse": STEPS * 3 * 5 * 5,
            "weight_ih_l1": STEPS * 3 * 5 * 10,
            "weight_hh_l1": STEPS * 3 * 5 * 5,
            "weight_ih_l1_reverse": STEPS * 3 * 5 * 10,
            "weight_hh_l1_reverse": STEPS * 3 * 5 * 5,
        },
    ),
    "lstm_projected": (
        nn.LSTM(3, 5, proj_size=2, batch_first=True),
        {
            "weight_ih_l0": STEPS * 4 * 5 * 3,
            "weight_hh_l0": STEPS * 4 * 5 * 2,
            "weight_hr_l0": STEPS * 2 * 5,
        },
    ),
    "cells": (Cells(), {"cell.weight_ih": STEPS * 4 * 5 * 3, "cell.weight_hh": STEPS * 4 * 5 * 5}),
    "packed": (Packed(), {"rnn.weight_ih_l0": 4 * 5 * 3, "rnn.weight_hh_l0": 4 * 5 * 5}),
}


@pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN")
@pytest.mark.parametrize("name", RECURRENT)
def test_recurrent_layers_count_every_step(name: str) -> None:
    model, macs = RECURRENT[name]
    summary = codeq.summary(model, (STEPS, 3))
    assert {layer.name: layer.macs for layer in summary.layers} == macs


def test_recurrent_layers_cost_what_float_layers_do() -> None:
    model = nn.ModuleDict({"rnn": nn.RNN(3, 5, batch_first=True), "fc": nn.Linear(5, 4)})
    model.forward = lambda x: model["fc"](model["rnn"](x)[0][:, -1])  # type: ignore[method-assign]
    codeq.attach(model, exclude="rnn")
    summary = codeq.summary(model, (STEPS, 3))
    matrices, fc = summary.layers[:2], summary.layers[2]
    assert [(layer.shape, layer.weight_bits, layer.nnz) for layer in matrices] == [((5, 3), 32, 15), ((5, 5), 32, 25)]
    assert [layer.bops for layer in matrices] == [STEPS * 15 * 32 * 32, STEPS * 25 * 32 * 32]
    assert summary.entropy_bytes == 4 * (15 + 25) + fc.entropy_bytes
    assert summary.relative_bops > STEPS * 40 / (STEPS * 40 + 20)


def test_counting_leaves_the_network_as_it_was() -> None:
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2)).train()
    model[1].eval()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    codeq.summary(model, (1, 5, 5))
    assert [module.training for module in model] == [True, False]
    assert not model[0]._forward_hooks
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_a_network_without_layers_is_refused() -> None:
    with pytest.raises(ValueError, match="ReLU has no convolution, linear or recurrent layer"):
        codeq.summary(nn.ReLU(), (3,))


class Tokens(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.fc, self.head = nn.Embedding(9, 6), nn.Linear(6, 4), nn.Linear(4, 2)

    def forward(self, ids: Tensor, scale: Tensor) -> Tensor:
        result: Tensor = self.head(self.fc(self.embedding(ids)).sum(1) * scale[:, None])
        return result


def test_several_inputs_cost_what_one_of_them_costs() -> None:
    ids, scale = torch.zeros(5, 3, dtype=torch.int64), torch.ones(5)
    for inputs in ((ids, scale), {"scale": scale, "ids": ids}):
        summary = codeq.summary(Tokens(), inputs=inputs)  # type: ignore[arg-type]
        assert {layer.name: layer.macs for layer in summary.layers} == {"fc.weight": 3 * 6 * 4, "head.weight": 4 * 2}
    image = torch.zeros(4, 2, 8, 8)
    assert codeq.summary(Net(), inputs=image).to_dict() == codeq.summary(Net(), (2, 8, 8)).to_dict()


def test_what_is_counted_for_is_said_once() -> None:
    for options in ({}, {"input_shape": (2, 8, 8), "inputs": torch.zeros(1, 2, 8, 8)}):
        with pytest.raises(ValueError, match="takes one of input_shape and inputs"):
            codeq.summary(Net(), **options)  # type: ignore[arg-type]
    with pytest.raises(
        ValueError, match=r"is of several inputs, ids, scale; give them: codeq\.summary\(model, inputs="
    ):
        codeq.summary(Tokens(), {"ids": (3,), "scale": ()})  # type: ignore[arg-type]
