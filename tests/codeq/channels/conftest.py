"""The channels of a small residual network, found once."""

import pytest
import torch

import codeq
from codeq.channels.spaces import ChannelSpaces, find_spaces
from tests.codeq.channels.networks import Residual


@pytest.fixture(scope="package")
def spaces() -> ChannelSpaces:
    torch.manual_seed(0)
    network = Residual()
    codeq.attach(network, 8, channels=True)
    return find_spaces(network, torch.randn(2, 3, 8, 8))
