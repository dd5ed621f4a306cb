"""Numbers of rows as an input: tables of embeddings, and constants that are repeated for a batch of them."""

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import codeq
from export.errors import ExportError

pytest.importorskip("ai_edge_litert", reason="LiteRT is an extra: pip install '.[tflite]'")

from export.tflite import export_tflite
from tests.cases import Net

WORDS, LENGTH, WIDTH = 11, 5, 8


class Tokens(nn.Module):
    """What a transformer's text encoder does: words, positions, a type, attention without and with a mask."""

    def __init__(self, masked: bool = False) -> None:
        super().__init__()
        self.words, self.types = nn.Embedding(WORDS, WIDTH, padding_idx=0), nn.Embedding(2, WIDTH)
        self.positions = nn.Parameter(torch.randn(1, LENGTH, WIDTH))
        self.qkv, self.fc = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(LENGTH * WIDTH, 4)
        self.masked = masked

    def forward(self, tokens: Tensor) -> Tensor:
        kinds = torch.zeros(1, LENGTH, dtype=torch.int64).expand(tokens.shape[0], -1)
        x = self.words(tokens) + self.types(kinds) + self.positions
        q, k, v = self.qkv(x).chunk(3, -1)
        mask = (torch.arange(LENGTH) < 3).expand(tokens.shape[0], LENGTH, LENGTH) if self.masked else None
        return self.fc(F.scaled_dot_product_attention(q, k, v, attn_mask=mask).flatten(1))


@pytest.mark.parametrize("dtype", [torch.int64, torch.int32])
@pytest.mark.parametrize("activations", ["float32", "int8"])
@pytest.mark.parametrize("masked", [False, True])
def test_tokens(tmp_path: Path, activations: str, dtype: torch.dtype, masked: bool) -> None:
    torch.manual_seed(0)
    model = Tokens(masked).eval()
    codeq.attach(model, bits=4)
    codeq.freeze(model)
    tokens = torch.randint(0, WORDS, (8, LENGTH), dtype=dtype)
    report = export_tflite(
        model,
        (tokens[:2],),
        tmp_path / "net.tflite",
        check_inputs=(tokens,),
        activations=activations,  # type: ignore[arg-type]
        calibration=(tokens,),
    )
    assert report.verdict.ok
    assert report.details.operators["GATHER"] == 1


def test_a_mask_that_masks_nothing_is_left_out(tmp_path: Path) -> None:
    def forward(m: Any, x: Tensor) -> Tensor:
        x = m.fc(x)
        mask = torch.ones(LENGTH, LENGTH, dtype=torch.bool).expand(x.shape[0], -1, -1)
        return F.scaled_dot_product_attention(x, x, x, attn_mask=mask).flatten(1)

    x = torch.randn(4, LENGTH, WIDTH)
    model = Net(forward, fc=nn.Linear(WIDTH, WIDTH)).eval()
    report = export_tflite(model, (x[:2],), tmp_path / "net.tflite", check_inputs=(x,))
    assert "ADD" not in report.details.operators


@pytest.mark.parametrize(
    ("kind", "reason"), [("rows", "it computes torch.int64, expected torch.float32"), ("words", "is torch.int16")]
)
def test_what_is_refused(tmp_path: Path, kind: str, reason: str) -> None:
    def forward(m: Any, x: Tensor) -> Tensor:
        return m.fc(m.words(x + 1 if kind == "rows" else x.long()).mean(1))

    x = torch.zeros(2, LENGTH, dtype=torch.int64 if kind == "rows" else torch.int16)
    model = Net(forward, words=nn.Embedding(WORDS, WIDTH), fc=nn.Linear(WIDTH, 2)).eval()
    with pytest.raises(ExportError, match=reason):
        export_tflite(model, (x,), tmp_path / "net.tflite")
    assert not list(tmp_path.iterdir())
