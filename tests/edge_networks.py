"""Blocks of the networks that edge teams ship, written as their authors write them: none of them knows this project.

    NETWORKS[name]() -> (network, inputs)

Each is small enough to export in a second, and has what its full size would stumble over: squeeze-and-excitation behind
a hard-sigmoid, a detection head on three maps, transposed convolutions that meet a skip connection, a shifted window,
channels that are shuffled, a causal mask, a state that starts at zero, attention from tokens with padding.
"""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
import transformers
from torch import Tensor, nn

Sample = tuple[nn.Module, tuple[Tensor, ...]]


def conv(
    inputs: int, outputs: int, kernel: int = 1, stride: int = 1, groups: int = 1, act: type = nn.ReLU
) -> nn.Module:
    """A convolution, its BatchNorm and an activation."""
    padding = kernel // 2
    layer = nn.Conv2d(inputs, outputs, kernel, stride, padding, groups=groups, bias=False)
    return nn.Sequential(layer, nn.BatchNorm2d(outputs), act())


class SqueezeExcite(nn.Module):
    """Channels are weighted by what the whole image shows (Hu et al., 2018)."""

    def __init__(self, channels: int, act: type, gate: type) -> None:
        super().__init__()
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.reduce, self.expand = nn.Conv2d(channels, channels // 4, 1), nn.Conv2d(channels // 4, channels, 1)
        self.act, self.gate = act(), gate()

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gate(self.expand(self.act(self.reduce(self.pool(x)))))


class InvertedResidual(nn.Module):
    """Expand, filter each channel, excite, project, add (Howard et al., 2019; Tan and Le, 2019)."""

    def __init__(self, act: type, gate: type) -> None:
        super().__init__()
        self.stem = conv(3, 8, 3, 2, act=act)
        self.block = nn.Sequential(
            conv(8, 24, act=act), conv(24, 24, 5, groups=24, act=act), SqueezeExcite(24, nn.ReLU, gate),
            conv(24, 8, act=nn.Identity),
        )  # fmt: skip
        self.head = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        return self.head((x + self.block(x)).mean((2, 3)))


class C2f(nn.Module):
    """YOLOv8's block: one half goes on, the other through bottlenecks, and all of them are concatenated."""

    def __init__(self, channels: int, count: int = 2) -> None:
        super().__init__()
        self.half = channels // 2
        self.first = conv(channels, channels, act=nn.SiLU)
        self.last = conv((2 + count) * self.half, channels, act=nn.SiLU)
        self.blocks = nn.ModuleList(
            nn.Sequential(conv(self.half, self.half, 3, act=nn.SiLU), conv(self.half, self.half, 3, act=nn.SiLU))
            for _ in range(count)
        )

    def forward(self, x: Tensor) -> Tensor:
        parts = list(self.first(x).chunk(2, 1))
        for block in self.blocks:
            parts.append(parts[-1] + block(parts[-1]))
        return self.last(torch.cat(parts, 1))


class SPPF(nn.Module):
    """Pools of pools, concatenated."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first, self.last = conv(channels, channels // 2, act=nn.SiLU), conv(2 * channels, channels, act=nn.SiLU)
        self.pool = nn.MaxPool2d(5, 1, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        y = self.pool(x)
        z = self.pool(y)
        return self.last(torch.cat([x, y, z, self.pool(z)], 1))


class Yolo(nn.Module):
    """Two maps, C2f and SPPF, and a head whose distances are means of a distribution (DFL)."""

    def __init__(self, bins: int = 8, classes: int = 3) -> None:
        super().__init__()
        self.bins = bins
        self.stem = nn.Sequential(conv(3, 8, 3, 2, act=nn.SiLU), C2f(8))
        self.down = nn.Sequential(conv(8, 16, 3, 2, act=nn.SiLU), SPPF(16))
        self.up = conv(24, 8, act=nn.SiLU)
        self.boxes = nn.ModuleList(nn.Conv2d(width, 4 * bins, 1) for width in (8, 16))
        self.scores = nn.ModuleList(nn.Conv2d(width, classes, 1) for width in (8, 16))
        self.dfl = nn.Conv2d(bins, 1, 1, bias=False)
        self.dfl.weight.data[:] = torch.arange(bins, dtype=torch.float32).view(1, bins, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        fine = self.stem(x)
        coarse = self.down(fine)
        fine = self.up(torch.cat([F.interpolate(coarse, scale_factor=2.0, mode="nearest"), fine], 1))
        maps = (fine, coarse)
        boxes = torch.cat([head(y).flatten(2) for head, y in zip(self.boxes, maps, strict=True)], 2)
        scores = torch.cat([head(y).flatten(2) for head, y in zip(self.scores, maps, strict=True)], 2)
        batch, _, places = boxes.shape
        distances = self.dfl(boxes.view(batch, 4, self.bins, places).transpose(2, 1).softmax(1)).view(batch, 4, places)
        left_top, right_bottom = distances.chunk(2, 1)
        centre, size = (right_bottom - left_top) / 2, left_top + right_bottom
        return torch.cat([centre, size, scores.sigmoid()], 1)


class UNet(nn.Module):
    """Down twice, up twice by transposed convolutions, each meeting what it left (Ronneberger et al., 2015)."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two, self.three = conv(3, 8, 3), conv(8, 12, 3), conv(12, 16, 3)
        self.up_two, self.up_one = nn.ConvTranspose2d(16, 12, 2, 2), nn.ConvTranspose2d(12, 8, 3, 2, 1, 1)
        self.join_two, self.join_one = conv(24, 12, 3), conv(16, 8, 3)
        self.head = nn.Conv2d(8, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        one = self.one(x)
        two = self.two(F.max_pool2d(one, 2))
        three = self.three(F.max_pool2d(two, 2))
        two = self.join_two(torch.cat([two, self.up_two(three)], 1))
        return self.head(self.join_one(torch.cat([one, self.up_one(two)], 1)))


class SwinWindow(nn.Module):
    """Attention in shifted windows with a table of relative positions (Liu et al., 2021)."""

    def __init__(self, width: int = 16, heads: int = 2, window: int = 4, side: int = 8) -> None:
        super().__init__()
        self.heads, self.window, self.side, self.shift = heads, window, side, window // 2
        self.embed = nn.Conv2d(3, width, 2, 2)
        self.norm, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))
        self.head = nn.Linear(width, 5)
        self.table = nn.Parameter(torch.randn((2 * window - 1) ** 2, heads) * 0.2)
        places = torch.stack(torch.meshgrid(torch.arange(window), torch.arange(window), indexing="ij")).flatten(1)
        away = (places[:, :, None] - places[:, None]).permute(1, 2, 0) + window - 1
        self.register_buffer("index", away[..., 0] * (2 * window - 1) + away[..., 1])
        regions = torch.zeros(1, side, side, 1)
        cuts = (slice(0, -window), slice(-window, -self.shift), slice(-self.shift, None))
        for number, (rows, columns) in enumerate((r, c) for r in cuts for c in cuts):
            regions[:, rows, columns] = number
        labels = self.windows(regions).squeeze(-1)
        apart = labels[:, None] - labels[:, :, None]
        self.register_buffer("mask", apart.masked_fill(apart != 0, -100.0))

    def windows(self, x: Tensor) -> Tensor:
        batch, height, width, channels = x.shape
        x = x.view(batch, height // self.window, self.window, width // self.window, self.window, channels)
        return x.permute(0, 1, 3, 2, 4, 5).reshape(-1, self.window**2, channels)

    def forward(self, image: Tensor) -> Tensor:
        x = self.embed(image).permute(0, 2, 3, 1)
        batch, side, _, width = x.shape
        short = x
        x = torch.roll(self.norm(x), (-self.shift, -self.shift), (1, 2))
        x = self.windows(x)
        count, tokens, _ = x.shape
        q, k, v = self.qkv(x).reshape(count, tokens, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        scores = (q * (width // self.heads) ** -0.5) @ k.transpose(-2, -1)
        scores = scores + self.table[self.index.view(-1)].view(tokens, tokens, -1).permute(2, 0, 1).unsqueeze(0)
        masked = scores.view(batch, -1, self.heads, tokens, tokens) + self.mask[None, :, None]
        x = (masked.view(-1, self.heads, tokens, tokens).softmax(-1) @ v).transpose(1, 2).reshape(count, tokens, width)
        x = self.proj(x).view(batch, side // self.window, side // self.window, self.window, self.window, width)
        x = x.permute(0, 1, 3, 2, 4, 5).reshape(batch, side, side, width)
        x = short + torch.roll(x, (self.shift, self.shift), (1, 2))
        x = x + self.mlp(self.norm2(x))
        return self.head(x.mean((1, 2)))


class ShuffleUnit(nn.Module):
    """Half of the channels pass by, and all of them are shuffled (Ma et al., 2018)."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = conv(3, 16, 3, 2)
        self.branch = nn.Sequential(conv(8, 8), conv(8, 8, 3, groups=8, act=nn.Identity), conv(8, 8))
        self.head = nn.Linear(16, 5)

    def forward(self, x: Tensor) -> Tensor:
        left, right = self.stem(x).chunk(2, dim=1)
        x = torch.cat((left, self.branch(right)), dim=1)
        batch, channels, height, width = x.size()
        x = x.view(batch, 2, channels // 2, height, width).transpose(1, 2).contiguous().view(batch, -1, height, width)
        return self.head(x.mean([2, 3]))


class RmsNorm(nn.Module):
    """Divide by the root of the mean square (Zhang and Sennrich, 2019), as language models write it."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.rand(width) + 0.5)

    def forward(self, x: Tensor) -> Tensor:
        dtype = x.dtype
        x = x.float()
        return self.weight * (x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6)).to(dtype)


class Decoder(nn.Module):
    """A language model of one layer: rotary positions, a causal mask of finfo.min, a gated MLP, tied weights."""

    def __init__(self, words: int = 40, width: int = 16, heads: int = 2, length: int = 8) -> None:
        super().__init__()
        self.heads, self.width = heads, width
        self.embed = nn.Embedding(words, width)
        self.norm, self.norm2, self.norm3 = RmsNorm(width), RmsNorm(width), RmsNorm(width)
        self.q, self.k, self.v, self.o = (nn.Linear(width, width, bias=False) for _ in range(4))
        self.gate, self.up, self.down = nn.Linear(width, 32), nn.Linear(width, 32), nn.Linear(32, width)
        self.head = nn.Linear(width, words, bias=False)
        half = width // heads // 2
        angles = torch.outer(torch.arange(length).float(), 100.0 ** -(torch.arange(half) / half))
        self.register_buffer("cos", torch.cat([angles, angles], 1).cos())
        self.register_buffer("sin", torch.cat([angles, angles], 1).sin())
        self.register_buffer("causal", torch.ones(length, length).tril().bool())

    def rotate(self, x: Tensor) -> Tensor:
        first, second = x[..., : x.shape[-1] // 2], x[..., x.shape[-1] // 2 :]
        return x * self.cos + torch.cat((-second, first), -1) * self.sin

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.embed(tokens)
        batch, length, _ = x.shape
        y = self.norm(x)
        q, k, v = (layer(y).view(batch, length, self.heads, -1).transpose(1, 2) for layer in (self.q, self.k, self.v))
        scores = self.rotate(q) @ self.rotate(k).transpose(2, 3) / math.sqrt(q.shape[-1])
        scores = scores.masked_fill(~self.causal, torch.finfo(scores.dtype).min)
        y = (F.softmax(scores, -1, dtype=torch.float32).to(q.dtype) @ v).transpose(1, 2).reshape(batch, length, -1)
        x = x + self.o(y)
        y = self.norm2(x)
        x = x + self.down(F.silu(self.gate(y)) * self.up(y))
        return self.head(self.norm3(x))


class ConvGru(nn.Module):
    """Three frames through a recurrent cell of convolutions whose state starts at zero (Ballas et al., 2016)."""

    def __init__(self, hidden: int = 8) -> None:
        super().__init__()
        self.hidden = hidden
        self.gates = nn.Conv2d(3 + hidden, 2 * hidden, 3, padding=1)
        self.candidate = nn.Conv2d(3 + hidden, hidden, 3, padding=1)
        self.head = nn.Conv2d(hidden, 2, 1)

    def forward(self, frames: Tensor) -> Tensor:
        batch, count, _, height, width = frames.shape
        state = torch.zeros(batch, self.hidden, height, width)
        for step in range(count):
            x = frames[:, step]
            reset, update = torch.sigmoid(self.gates(torch.cat([x, state], 1))).chunk(2, 1)
            new = torch.tanh(self.candidate(torch.cat([x, reset * state], 1)))
            state = (1 - update) * state + update * new
        return self.head(state)


class Bert(nn.Module):
    """transformers' BERT with a classifier; `attention` is "sdpa" or "eager"."""

    def __init__(self, attention: str) -> None:
        super().__init__()
        config = transformers.BertConfig(
            vocab_size=40,
            max_position_embeddings=8,
            hidden_size=16,
            intermediate_size=32,
            num_hidden_layers=1,
            num_attention_heads=2,
            num_labels=4,
            initializer_range=0.3,
            attn_implementation=attention,
        )
        self.bert = transformers.BertForSequenceClassification(config)

    def forward(self, tokens: Tensor, mask: Tensor) -> Tensor:
        return self.bert(input_ids=tokens, attention_mask=mask).logits


def images(side: int) -> tuple[Tensor, ...]:
    return (torch.randn(8, 3, side, side),)


def tokens() -> Tensor:
    return torch.randint(40, (8, 8))


def padding() -> Tensor:
    mask = torch.ones(8, 8, dtype=torch.int64)
    mask[:4, 5:] = 0
    return mask


NETWORKS: dict[str, Callable[[], Sample]] = {
    "mobilenet_v3": lambda: (InvertedResidual(nn.Hardswish, nn.Hardsigmoid), images(16)),
    "efficientnet": lambda: (InvertedResidual(nn.SiLU, nn.Sigmoid), images(16)),
    "yolo_v8": lambda: (Yolo(), images(16)),
    "unet": lambda: (UNet(), images(16)),
    "swin": lambda: (SwinWindow(), images(16)),
    "shufflenet": lambda: (ShuffleUnit(), images(16)),
    "decoder": lambda: (Decoder(), (tokens(),)),
    "conv_gru": lambda: (ConvGru(), (torch.randn(8, 3, 3, 6, 6),)),
    "bert_sdpa": lambda: (Bert("sdpa"), (tokens(), padding())),
    "bert_eager": lambda: (Bert("eager"), (tokens(), padding())),
}
