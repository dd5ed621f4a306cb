"""A compiled network computes what the plain one does, with the same gradients and statistics, and gives way to it."""

import copy

import pytest
import torch
from torch import Tensor, nn

import codeq
import models
from codeq.training.compiled_network import CompiledNetwork

BATCH = 6
COMPILES = pytest.mark.slow("it compiles a network")


@pytest.fixture
def attached() -> nn.Module:
    torch.manual_seed(0)
    model = models.create("resnet8", in_channels=3, input_size=8)
    codeq.attach(model, 4, granularity="channel")
    return model.train()


def try_compiled(compiled: CompiledNetwork, inputs: Tensor) -> Tensor:
    outputs = compiled(inputs)
    if compiled.works is False:
        pytest.skip("no C++ compiler")
    return outputs  # type: ignore[no-any-return]


def check_alike(compiled: CompiledNetwork, plain: nn.Module, inputs: Tensor) -> None:
    """Compare outputs, gradients and statistics after two steps in train mode."""
    for _ in range(2):
        found, expected = try_compiled(compiled, inputs), plain(inputs)
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
        for outputs in (found, expected):
            outputs.square().sum().backward()
    expected_by_name = {name: parameter.grad for name, parameter in plain.named_parameters()}
    for name, parameter in compiled.model.named_parameters():
        gradient, expected = parameter.grad, expected_by_name[name]
        assert gradient is not None, name
        assert expected is not None, name
        # The gradient of a bias before a BatchNorm is zero but for rounding.
        assert float((gradient - expected).norm()) < 1e-3 * max(1, float(expected.norm())), name
    for (name, tensor), other in zip(compiled.model.named_buffers(), plain.buffers(), strict=True):
        torch.testing.assert_close(tensor, other, rtol=1e-4, atol=1e-5, msg=name)


@COMPILES
def test_it_computes_what_the_plain_network_computes(attached: nn.Module, rng: torch.Generator) -> None:
    plain = copy.deepcopy(attached)
    check_alike(CompiledNetwork(attached, BATCH), plain, torch.randn(BATCH, 3, 8, 8, generator=rng))


class Tied(nn.Module):
    """Shares one weight between a linear layer, which is quantized, and an embedding, which is not; with dropout."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(7, 8)
        self.first, self.second = nn.Linear(8, 8), nn.Linear(8, 7, bias=False)
        self.second.weight = self.table.weight
        self.dropout = nn.Dropout(0.5)

    def forward(self, ids: Tensor) -> Tensor:
        hidden: Tensor = self.dropout(self.first(self.table(ids))).relu()
        return self.second(hidden)  # type: ignore[no-any-return]


@COMPILES
def test_shared_weights_and_dropout_are_the_plain_networks(rng: torch.Generator) -> None:
    torch.manual_seed(0)
    model = Tied().train()
    codeq.attach(model, 4)
    plain = copy.deepcopy(model)
    ids = torch.randint(0, 7, (BATCH, 3), generator=rng)
    compiled = CompiledNetwork(model, BATCH)
    torch.manual_seed(1)
    found = try_compiled(compiled, ids)
    torch.manual_seed(1)
    torch.testing.assert_close(found, plain(ids), rtol=1e-5, atol=1e-6)


def test_a_batch_of_another_size_goes_the_plain_way(
    attached: nn.Module, monkeypatch: pytest.MonkeyPatch, rng: torch.Generator
) -> None:
    compiled = CompiledNetwork(attached, BATCH)
    monkeypatch.setattr(torch, "compile", lambda *inputs, **options: pytest.fail("compiled"))
    inputs = torch.randn(BATCH - 1, 3, 8, 8, generator=rng)
    assert torch.equal(compiled(inputs), copy.deepcopy(attached)(inputs))


def test_where_compiling_fails_the_plain_network_goes_on(
    attached: nn.Module, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, rng: torch.Generator
) -> None:
    def fail(*inputs: object, **options: object) -> None:
        raise RuntimeError("no C++ compiler\nwas found")

    compiled = CompiledNetwork(attached, BATCH)
    monkeypatch.setattr(torch, "compile", fail)
    inputs = torch.randn(BATCH, 3, 8, 8, generator=rng)
    plain = copy.deepcopy(attached)
    for _ in range(2):
        assert torch.equal(compiled(inputs), plain(inputs))
    assert [record.getMessage() for record in caplog.records] == [
        "the network is not compiled, slower steps go on (no C++ compiler)"
    ]
    assert compiled.works is False
