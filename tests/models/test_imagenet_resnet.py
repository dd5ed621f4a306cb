"""What ResNet-18 and ResNet-50 share: shortcuts where the shape changes, strides and widths of the stages."""

import pytest
import torch
from torch import nn

from models.imagenet_resnet import ImageNetResNet, downsample
from models.resnet18 import BasicBlock


@pytest.mark.parametrize(("channels", "stride", "changes"), [(4, 1, False), (4, 2, True), (8, 1, True)])
def test_a_shortcut_has_weights_where_the_shape_changes(channels: int, stride: int, changes: bool) -> None:
    shortcut = downsample(4, channels, stride)
    assert (shortcut is not None) == changes
    if shortcut is not None:
        size = 6 // stride
        assert shortcut(torch.zeros(2, 4, 6, 6)).shape == (2, channels, size, size)


def test_stages_have_their_depth_width_and_stride() -> None:
    network = ImageNetResNet(BasicBlock, (1, 2, 3, 1), 3, 10, 64, 0.25).eval()
    stages = [network.layer1, network.layer2, network.layer3, network.layer4]
    assert [len(stage) for stage in stages] == [1, 2, 3, 1]
    x = network.maxpool(network.relu(network.bn1(network.conv1(torch.zeros(1, 3, 64, 64)))))
    shapes = []
    for stage in stages:
        x = stage(x)
        shapes.append(tuple(x.shape[1:]))
    assert shapes == [(16, 16, 16), (32, 8, 8), (64, 4, 4), (128, 2, 2)]
    assert isinstance(network.fc, nn.Linear)
    assert network.fc.in_features == 128
