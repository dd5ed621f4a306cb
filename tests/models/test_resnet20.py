"""ResNet-20 in other widths; its published size is in test_models.py."""

import pytest
import torch
from torch.nn import functional as F

import codeq
import models


@pytest.mark.parametrize("width", [0.25, 0.5, 0.75, 2.0])
def test_a_width_multiplies_all_channels(width: float) -> None:
    network, full = models.resnet20(width=width), models.resnet20()
    first = round(16 * width)
    assert [stage[-1].conv2.out_channels for stage in (network.stage1, network.stage2, network.stage3)] == [
        first,
        2 * first,
        4 * first,
    ]
    assert network(torch.randn(2, 3, 32, 32)).shape == (2, 10)
    macs = [codeq.summary(built, (3, 32, 32)).macs for built in (network, full)]
    assert macs[0] / macs[1] == pytest.approx(width**2, rel=0.1)


def test_a_width_of_no_sense_is_refused() -> None:
    with pytest.raises(ValueError, match=r"width must be a number from 0\.05 to 8, found 0"):
        models.resnet20(width=0)


def test_shortcuts_are_option_a() -> None:
    """Every second pixel, and zeros for new channels, as the paper says."""
    torch.manual_seed(0)
    block = models.resnet20().stage2[0].eval()
    torch.nn.init.zeros_(block.conv2.weight)
    x = torch.randn(2, 16, 8, 8)
    expected = F.relu(F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 8, 8)))
    assert torch.equal(block(x), expected)
