"""torch's fused attention, which reads weights past their parametrizations, computes with quantized ones."""

import pytest
import torch
from torch import nn

import codeq

pytestmark = pytest.mark.quick


@pytest.mark.parametrize("batch_first", [True, False])
def test_torchs_fused_attention_computes_with_quantized_weights(batch_first: bool) -> None:
    layer = nn.TransformerEncoderLayer(16, 4, 32, batch_first=batch_first).eval()
    x = torch.randn(3, 5, 16)
    with torch.no_grad():
        plain = layer(x)
        codeq.attach(layer, 2)
        fused = layer(x)
        torch.backends.mha.set_fastpath_enabled(False)
        try:
            expected = layer(x)
        finally:
            torch.backends.mha.set_fastpath_enabled(True)
    torch.testing.assert_close(fused, expected)
    assert not torch.allclose(plain, expected, atol=1e-2)
