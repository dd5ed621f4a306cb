"""Networks with every way for a channel to be moved, joined and read, and dead channels put in at random."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 12, 3, padding=1)
        self.norm = nn.BatchNorm2d(12)
        self.middle = nn.Conv2d(12, 10, 3, padding=1, bias=False)
        self.middle_norm = nn.BatchNorm2d(10)
        self.last = nn.Conv2d(10, 12, 1)
        self.fc = nn.Linear(12, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.norm(self.first(x)))
        x = F.relu(x + self.last(F.relu(self.middle_norm(self.middle(x)))))
        return self.fc(F.adaptive_avg_pool2d(x, 1).flatten(1))


class Joined(nn.Module):
    """Concatenation, pools, transposed convolution and upsampling: a small U-Net."""

    def __init__(self) -> None:
        super().__init__()
        self.down = nn.Conv2d(3, 8, 3, padding=1)
        self.deep = nn.Conv2d(8, 12, 3, padding=1)
        self.up = nn.ConvTranspose2d(12, 8, 2, stride=2)
        self.both = nn.Conv2d(16, 6, 3, padding=1)
        self.more = nn.Conv2d(6, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        side = F.relu(self.down(x))
        x = F.relu(self.up(F.relu(self.deep(F.max_pool2d(side, 2)))))
        x = F.relu(self.both(torch.cat([side, x], 1)))
        return self.more(F.interpolate(x, scale_factor=2, mode="nearest"))


class Depthwise(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.expand = nn.Conv2d(3, 16, 1)
        self.expand_norm = nn.BatchNorm2d(16)
        self.each = nn.Conv2d(16, 16, 3, padding=1, groups=16, bias=False)
        self.each_norm = nn.BatchNorm2d(16)
        self.project = nn.Conv2d(16, 8, 1)
        self.grouped = nn.Conv2d(8, 16, 3, padding=1, groups=4)
        self.fc = nn.Linear(16 * 16, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu6(self.expand_norm(self.expand(x)))
        x = F.relu6(self.each_norm(self.each(x)))
        x = F.relu(self.grouped(self.project(x)))
        return self.fc(F.avg_pool2d(x, 2).flatten(1))


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 16, 2, stride=2)
        self.norm = nn.LayerNorm(16)
        self.qkv = nn.Linear(16, 48)
        self.project = nn.Linear(16, 16)
        self.up = nn.Linear(16, 24)
        self.down = nn.Linear(24, 16)
        self.fc = nn.Linear(16, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x).flatten(2).transpose(1, 2)
        q, k, v = self.qkv(self.norm(x)).chunk(3, dim=-1)
        heads = [part.unflatten(-1, (2, 8)).transpose(1, 2) for part in (q, k, v)]
        x = x + self.project(F.scaled_dot_product_attention(*heads).transpose(1, 2).flatten(2))
        x = x + self.down(F.relu(self.up(x)))
        return self.fc(x.mean(1))


class Heads(nn.Module):
    """Attention whose forward has no number of heads."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 24, 2, stride=2)
        self.norm = nn.LayerNorm(24)
        self.qkv = nn.Linear(24, 72)
        self.project = nn.Linear(24, 24)
        self.up = nn.Linear(24, 16)
        self.fc = nn.Linear(16, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x).flatten(2).transpose(1, 2)
        q, k, v = self.qkv(self.norm(x)).unflatten(-1, (3, -1, 8)).permute(2, 0, 3, 1, 4).unbind(0)
        x = x + self.project(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))
        return self.fc(F.relu(self.up(x)).mean(1))


class Shuffled(nn.Module):
    """Split, channel shuffle, pixel shuffle and a gate."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 16, 3, padding=1)
        self.narrow = nn.Conv2d(8, 6, 1)
        self.branch = nn.Conv2d(6, 8, 3, padding=1)
        self.gate = nn.Conv2d(16, 16, 1)
        self.last = nn.Conv2d(16, 16, 1)
        self.out = nn.Conv2d(4, 4, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        one, other = F.relu(self.first(x)).chunk(2, dim=1)
        x = torch.cat([one, F.relu(self.branch(F.relu(self.narrow(other))))], 1)
        n, c, h, w = x.shape
        x = x.view(n, 2, c // 2, h, w).transpose(1, 2).reshape(n, c, h, w)
        x = x * torch.sigmoid(self.gate(F.adaptive_avg_pool2d(x, 1)))
        return self.out(F.pixel_shuffle(F.relu(self.last(x)), 2))


class Padded(nn.Module):
    """A shortcut that takes every second pixel and pads channels with zeros, in a module or by numbers in forward."""

    def __init__(self, *, by_numbers: bool = False) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3, padding=1, bias=False)
        self.first_norm = nn.BatchNorm2d(8)
        self.one = nn.Conv2d(8, 16, 3, stride=2, padding=1)
        self.other = nn.Conv2d(16, 16, 3, padding=1)
        self.pad = nn.ZeroPad3d((0, 0, 0, 0, 3, 5))
        self.fc = nn.Linear(16, 5)
        self.by_numbers = by_numbers

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.first_norm(self.first(x)))
        side = x[:, :, ::2, ::2]
        side = F.pad(side, (0, 0, 0, 0, 3, 5)) if self.by_numbers else self.pad(side)
        x = F.relu(side + self.other(F.relu(self.one(x))))
        return self.fc(F.adaptive_avg_pool2d(x, 1).flatten(1))


NETWORKS: tuple[Callable[[], nn.Module], ...] = (
    Residual,
    Joined,
    Depthwise,
    Attention,
    Heads,
    Shuffled,
    Padded,
)


def network_with_dead_channels(kind: Callable[[], nn.Module], seed: int) -> tuple[nn.Module, Tensor]:
    """Build a network in which some layers lack outputs, some read not all their inputs, and BatchNorms have a past."""
    torch.manual_seed(seed)
    network = kind().eval()
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.normal_()  # type: ignore[operator,union-attr]
                module.running_var.uniform_(0.5, 2.0)  # type: ignore[operator,union-attr]
                module.bias.normal_()
            if not isinstance(module, nn.Conv2d | nn.Linear | nn.ConvTranspose2d):
                continue
            out = 1 if isinstance(module, nn.ConvTranspose2d) else 0
            for axis, share in ((out, 0.4), (1 - out, 0.3)):
                size = module.weight.shape[axis]
                if size < 2:
                    continue
                dead = torch.rand(size) < share
                dead[0] = False
                module.weight.transpose(0, axis)[dead] = 0.0
                if axis == out and module.bias is not None:
                    module.bias[dead & (torch.rand(size) < 0.7)] = 0.0
        if isinstance(network, Heads):
            network.project.weight[:, 8:16] = 0.0  # the second head
    return network, torch.randn(6, 3, 8, 8)
