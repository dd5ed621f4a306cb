"""Fixtures shared by tests/ and runtime_tests/."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import codeq
import models
from codeq.quantizer.attach import quantized_weights
from runtime_tests.networks import batch_norms, draw_batch_norm, open_dead_zones

pytest_plugins = ["pytester", "tests.plugins.commands", "tests.plugins.cpu_limit", "tests.plugins.tiers"]


@pytest.fixture(autouse=True)
def _alike(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every test begin with the same random numbers, and reports be as wide as in a log."""
    torch.manual_seed(0)
    monkeypatch.setenv("COLUMNS", "100")


@pytest.fixture
def rng() -> torch.Generator:
    """A seeded generator, the same for every test."""
    return torch.Generator().manual_seed(1234)


@torch.no_grad()
def settle(model: torch.nn.Module, input_shape: tuple[int, ...], theta: float) -> torch.nn.Module:
    """Give an attached network what training gives it: a real dead zone, BatchNorm statistics, mixed signs of gamma."""
    generator = torch.Generator().manual_seed(7)
    open_dead_zones(model, theta)
    for index, weight in enumerate(quantized_weights(model)):
        if index % 2:
            # Heavy tails, as training gives them: this layer comes out above 8/9 zeros, the others below.
            spread = weight.original.std()
            sample = torch.randn(weight.original.shape, generator=generator)
            weight.original.copy_(sample * sample.abs() * spread)
    draw_batch_norm(batch_norms(model), generator, shift=0.0)
    model.train()
    for _ in range(5):
        model(torch.randn(32, *input_shape, generator=generator))
    codeq.freeze(model)
    return model.eval()


@pytest.fixture(scope="session")
def make_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Write a checkpoint of an attached network with a realistic state, without training it."""

    def make(
        name: str = "resnet8",
        *,
        theta: float = 0.4,
        bits: int | None = 4,
        grid: str = "integer",
        input_size: int = 8,
        arguments: dict[str, Any] | None = None,
    ) -> Path:
        torch.manual_seed(0)
        if arguments is None:
            arguments = {"in_channels": 1, "num_classes": 10, "input_size": input_size}
        model = models.create(name, **arguments)
        input_shape = model.input_shape
        codeq.attach(model, bits, grid=grid)
        settle(model, input_shape, theta)
        held = torch.randn(16, *input_shape, generator=torch.Generator().manual_seed(3))
        path = tmp_path_factory.mktemp("checkpoint") / f"{name}.pt"
        codeq.save(path, model, input_shape=input_shape, name=name, arguments=arguments, held_inputs=held)
        return path

    return make


@pytest.fixture(scope="session")
def checkpoint_path(make_checkpoint: Callable[..., Path]) -> Path:
    """A 4-bit ResNet-8 for 1x8x8 inputs, mostly zeros."""
    return make_checkpoint()
