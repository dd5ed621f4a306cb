"""Networks around one operator, exported to LiteRT in either mode. Without LiteRT these tests are skipped."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import codeq
from export.errors import ExportError
from tests.cases import Net, flat

Forward = Callable[..., Tensor]
Check = Callable[..., Any]

MAKING = ("grid", "grid_limit", "zeros", "flat", "exclude")
EXPORT_OPTIONS = ("layout", "io", "sparse", "int4", "hybrid")


@pytest.fixture
def export(tmp_path: Path) -> Check:
    """Export a network for inputs of a shape, with random 4-bit codes; the report. Parity is part of the export.

    `zeros` is the share of weights that are set to zero before, `grid_limit` the largest code. Raises ParityError where
    LiteRT computes something else.
    """
    pytest.importorskip("ai_edge_litert", reason="LiteRT is an extra: pip install '.[tflite]'")
    from export.tflite import export_tflite

    def run(forward: Forward, shape: tuple[int, ...], activations: str = "float32", **layers: nn.Module) -> Any:
        made, wishes = (
            {name: layers.pop(name) for name in names if name in layers} for names in (MAKING, EXPORT_OPTIONS)
        )
        torch.manual_seed(0)
        # `flat`: one argmax per input, not one per pixel.
        body = (lambda m, x: flat(forward(m, x))) if made.get("flat", True) else forward
        model = Net(body, **copy.deepcopy(layers))
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.data[torch.rand_like(parameter) < made.get("zeros", 0.0)] = 0
        if any(isinstance(m, nn.Conv1d | nn.Conv2d | nn.Linear) for m in model.modules()):
            codeq.attach(model, bits=4, grid=made.get("grid", "integer"), grid_limit=made.get("grid_limit", 127))
        x = torch.randn(8, *shape)
        model.train()
        with torch.no_grad():
            model(x)
        codeq.freeze(model)
        return export_tflite(
            model.eval(),
            (x[:2],),
            tmp_path / "net.tflite",
            check_inputs=(x,),
            activations=activations,
            calibration=x,
            activations_except=made.get("exclude", ()),
            force=True,
            **wishes,
        )

    return run


@pytest.fixture
def refused(export: Check) -> Check:
    """The reason why a network cannot be exported, one line."""

    def run(*arguments: Any, **layers: Any) -> str:
        with pytest.raises(ExportError) as raised:
            export(*arguments, **layers)
        assert "\n" not in str(raised.value)
        return str(raised.value)

    return run


@pytest.fixture
def program() -> Check:
    """The program of a network, as the builder gets it: 4-bit codes, activations quantized where asked."""
    from export.options import Quantization
    from export.program.prepare import prepare_program

    def run(model: nn.Module, shape: tuple[int, ...], activations: Any = "float32", grid: str = "integer") -> Any:
        torch.manual_seed(0)
        if any(isinstance(module, nn.Conv2d | nn.Linear) for module in model.modules()):
            codeq.attach(model, bits=4, grid=grid)
        x = torch.randn(4, *shape)
        model.train()(x)
        codeq.freeze(model)
        return prepare_program(model.eval(), (x[:2],), Quantization(activations=activations, calibration=x)).program

    return run
