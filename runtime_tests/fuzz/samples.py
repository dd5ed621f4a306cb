"""This module writes the small files that mutants are made from: one tiny network in every kind of file of a format."""

from contextlib import suppress
from pathlib import Path

import torch
from torch import nn

import codeq
from codeq.training.recipe import TrainConfig
from codeq.training.trainer import EpochResult, Trainer
from export.backend import Backend
from export.options import Activations, Quantization
from export.publish import publish
from runtime_tests.networks import OPEN_DEAD_ZONE, draw_codes, open_dead_zones

FACTORY = "runtime_tests.fuzz.samples:tiny_network"
"""It builds the network of the checkpoint, for `--model`."""
SHAPE = (2, 6, 6)
BITS = 4
INPUTS = 4
ZEROS = {"0.weight": 0.5, "3.weight": 0.9, "7.weight": 0.75}
"""Shares that call for different decoders."""
SEED = 0


def tiny_network() -> nn.Module:
    """Build two convolutions, one in groups, and a linear layer: just so many weights that decoders pay."""
    return nn.Sequential(
        nn.Conv2d(2, 16, 3, padding=1, bias=False),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.Conv2d(16, 64, 3, padding=1, groups=2),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(64, 48),
    )


def write_samples(backend: Backend, folder: Path) -> tuple[Path, list[Path]]:
    """Write a checkpoint, and files of it: with float activations in every variant of the backend, and one int8 file.

    Args:
        backend: Writes the files.
        folder: Where they go; it must exist.

    Returns:
        The checkpoint and the files.
    """
    torch.manual_seed(SEED)
    model = tiny_network()
    codeq.attach(model, BITS)
    open_dead_zones(model, OPEN_DEAD_ZONE)
    inputs = torch.randn(INPUTS, *SHAPE)
    with torch.no_grad():
        model.train()(inputs)
    codeq.freeze(model)
    draw_codes(model.eval(), ZEROS)
    checkpoint = folder / "net.pt"
    codeq.save(checkpoint, model, input_shape=SHAPE, factory=FACTORY, held_inputs=inputs)
    wanted: list[tuple[Activations, str]] = [("float32", variant) for variant in backend.variants]
    wanted.append(("int8", next(iter(backend.variants))))
    files = []
    for activations, variant in wanted:
        path = folder / f"{activations}-{variant}{backend.suffix}"
        request = backend.request(
            quantization=Quantization(activations=activations, calibration=inputs if activations == "int8" else None),
            check_inputs=(inputs,),
            **backend.variants[variant],
        )
        publish(backend, model, (inputs[:2],), path, request)
        files.append(path)
    return checkpoint, files


def write_checkpoints(folder: Path) -> list[Path]:
    """Write checkpoints of two trainings that have an epoch to go: one to a budget, one that learns activation scales.

    Args:
        folder: Where they go; it must exist.
    """
    files = []
    for name, wanted in {"budget": {"bops": 0.05}, "int8": {"activations": "int8", "sparsity": 0.7}}.items():
        path = folder / f"{name}.pt"
        config = TrainConfig(**wanted, epochs=2, batch_size=512)  # type: ignore[arg-type]
        with suppress(KeyboardInterrupt):
            Trainer(config).run(path, on_epoch=_stop)
        files.append(path)
    return files


def _stop(row: EpochResult) -> None:
    raise KeyboardInterrupt
