"""Attention without an axis for heads computes what it did."""

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import codeq
from codeq.graph.nodes import GraphRunner, operator_name
from codeq.graph.single_head import add_head_axis
from codeq.graph.trace import trace
from export import export_onnx


class SingleHead(nn.Module):
    """(N, L, 8) -> (N, L, 4)."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.qkv, self.out, self.kind = nn.Linear(8, 24), nn.Linear(8, 4), kind

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x).chunk(3, -1)
        row = torch.arange(x.shape[1])
        masks = {"mask": row[:, None] >= row, "batch_mask": (x[..., :1] > -2).transpose(1, 2)}
        y = F.scaled_dot_product_attention(q, k, v, masks.get(self.kind), is_causal=self.kind == "causal", scale=0.4)
        return self.out(y)


@pytest.mark.parametrize(
    "kind", [*(pytest.param(kind, marks=pytest.mark.full) for kind in ("plain", "causal", "mask")), "batch_mask"]
)
@pytest.mark.parametrize("activations", ["float32", "int8"])
def test_it_exports_and_computes_the_same(kind: str, activations: str, rng: torch.Generator, tmp_path: Path) -> None:
    model = SingleHead(kind).eval()
    x = torch.randn(6, 5, 8, generator=rng)
    exported = trace(model, (x,))
    attention = [node for node in exported.graph.nodes if operator_name(node) == "scaled_dot_product_attention"]
    assert [node.meta["val"].ndim for node in attention] == [4]
    torch.testing.assert_close(GraphRunner(exported).compute((x,))[0], model(x))
    codeq.attach(model)
    assert export_onnx(model, (x,), tmp_path / "net.onnx", activations=activations).verdict.ok  # type: ignore[arg-type]


def test_other_attention_is_left_alone(rng: torch.Generator) -> None:
    model = nn.MultiheadAttention(8, 2, batch_first=True).eval()
    x = torch.randn(2, 5, 8, generator=rng)
    exported = trace(model, (x, x, x))
    before = [node.name for node in exported.graph.nodes]
    add_head_axis(exported)
    assert [node.name for node in exported.graph.nodes] == before
