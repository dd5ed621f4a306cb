"""Files whose shapes say one batch size: nothing else in them differs, and LiteRT still resizes them."""

from pathlib import Path

import pytest
import torch
from torch import nn

import codeq
from export.errors import ExportError
from export.publish import check_parity

pytest.importorskip("ai_edge_litert", reason="LiteRT is an extra: pip install '.[tflite]'")

from export.tflite import export_tflite
from export.tflite.file.flatbuffer import read
from export.tflite.runner import LiteRtRunner

pytestmark = pytest.mark.slow("files are exported")


def network() -> nn.Module:
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(512, 5)]
    model = nn.Sequential(*layers)
    codeq.attach(model, 4)
    codeq.freeze(model)
    return model.eval()


@pytest.mark.parametrize("activations", ["float32", "int8"])
@pytest.mark.parametrize("batch", [1, 4])
def test_shapes_say_one_batch(batch: int, activations: str, tmp_path: Path) -> None:
    model, x = network(), torch.randn(6, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    options = {"check_inputs": (x,), "activations": activations, "calibration": x if activations == "int8" else None}
    open_path, path = tmp_path / "open.tflite", tmp_path / "fixed.tflite"
    export_tflite(model, (x[:2],), open_path, **options)  # type: ignore[arg-type]
    report = export_tflite(model, (x[:2],), path, batch=batch, **options)  # type: ignore[arg-type]
    assert report.verdict.ok
    assert {check.batch_size for check in report.verdict.outputs} == {1, 3}  # the interpreter resizes it
    usual, fixed = (read(item.read_bytes()).subgraphs[0] for item in (open_path, path))
    assert not any(tensor.shapeSignature is not None for tensor in fixed.tensors)
    for one, other in zip(usual.tensors, fixed.tensors, strict=True):
        signature = [] if one.shapeSignature is None else list(one.shapeSignature)
        wanted = [
            batch * size if axis < 0 else size for size, axis in zip(one.shape, signature or one.shape, strict=True)
        ]
        assert list(other.shape) == wanted
    runner = LiteRtRunner(path)
    runner.open()
    assert runner.inputs[0].shape == (None, 3, 8, 8)
    verdict = check_parity(path, model, (x,), strict=True)
    assert verdict.ok, verdict


class Recurrent(nn.Module):
    """Gives its final state, whose batch is the second axis."""

    def __init__(self) -> None:
        super().__init__()
        self.fc, self.gru = nn.Linear(4, 4), nn.GRU(4, 8, batch_first=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        final: torch.Tensor = self.gru(self.fc(x))[1]
        return final


@pytest.mark.parametrize(
    ("batch", "message"), [(4, r"^--batch: the batch of output \w+ is not its first axis"), (0, "batch.*at least 1")]
)
def test_what_no_one_batch_can_say_is_refused(batch: int, message: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model, x = Recurrent(), torch.randn(4, 6, 4)
    codeq.attach(model, 4, exclude="gru")
    with pytest.raises(ExportError, match=message):
        export_tflite(model.eval(), (x[:2],), tmp_path / "net.tflite", check_inputs=(x,), batch=batch)
    assert not list(tmp_path.iterdir())
