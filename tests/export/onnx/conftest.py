"""One small exported file for the tests that look at it closely."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import codeq
from export import export_onnx


@pytest.fixture(scope="session")
def small_file(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., tuple[Path, nn.Module, torch.Tensor]]:
    """Export a linear layer, attached at 4 bits, once per set of options; gives the file, the network, its inputs."""
    made: dict[tuple[Any, ...], tuple[Path, nn.Module, torch.Tensor]] = {}

    def make(**options: Any) -> tuple[Path, nn.Module, torch.Tensor]:
        key = tuple(sorted(options.items()))
        if key not in made:
            torch.manual_seed(0)
            network = nn.Sequential(nn.Linear(4, 3), nn.ReLU()).eval()
            codeq.attach(network, 4)
            inputs = torch.randn(6, 4)
            path = tmp_path_factory.mktemp("small") / "net.onnx"
            export_onnx(network, (inputs[:2],), path, check_inputs=(inputs,), **options)
            made[key] = path, network, inputs
        return made[key]

    return make
