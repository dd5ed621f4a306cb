"""This module defines a small vision transformer for CIFAR.

Source: Dosovitskiy et al. 2021, "An Image is Worth 16x16 Words", arXiv:2010.11929, in the size of DeiT-Ti (Touvron et
al. 2021, arXiv:2012.12877), with patches of 4 x 4. CoDeQ (arXiv:2512.12981) trains a "TinyViT" on CIFAR-10, whose
dimensions were not at hand. Names are timm's: with `patch_size=16, input_size=224, num_classes=1000` this is its
deit_tiny_patch16_224, of 5,717,416 parameters. Input 3 x 32 x 32.

| network | blocks | parameters | MACs at 32 x 32 in its layers | and in the products of attention |
|---|---|---|---|---|
| tiny_vit | 12 | 5,362,762 | 345,638,784 | 19,468,800 |

Queries, keys and values come from one ordinary linear layer. LayerNorm goes before each half of a block.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.arguments import check_image_arguments, check_integers

WIDTH = 192
HEADS = 3
EPS = 1e-6


class Attention(nn.Module):
    """Lets every token gather from all tokens, in several heads (Vaswani et al. 2017, arXiv:1706.03762)."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv = nn.Linear(WIDTH, 3 * WIDTH)
        self.proj = nn.Linear(WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        # No number of heads here, so that heads can be taken out.
        query, key, value = self.qkv(x).unflatten(-1, (3, -1, WIDTH // HEADS)).permute(2, 0, 3, 1, 4).unbind(0)
        gathered = F.scaled_dot_product_attention(query, key, value)
        return self.proj(gathered.transpose(1, 2).flatten(2))


class Mlp(nn.Module):
    """Applies two linear layers with gelu between them, the inner one four times as wide."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1 = nn.Linear(WIDTH, 4 * WIDTH)
        self.act = nn.GELU()
        self.fc2 = nn.Linear(4 * WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(self.act(self.fc1(x)))


class Block(nn.Module):
    """Applies attention, then treats each token on its own; both behind LayerNorm and beside a shortcut."""

    def __init__(self) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(WIDTH, eps=EPS)
        self.attn = Attention()
        self.norm2 = nn.LayerNorm(WIDTH, eps=EPS)
        self.mlp = Mlp()

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class PatchEmbedding(nn.Module):
    """Maps (N, in_channels, H, W) to (N, tokens, WIDTH), one token per patch."""

    def __init__(self, in_channels: int, patch_size: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(in_channels, WIDTH, patch_size, stride=patch_size)

    def forward(self, x: Tensor) -> Tensor:
        return self.proj(x).flatten(2).transpose(1, 2)


class TinyVit(nn.Module):
    """Maps (N, in_channels, input_size, input_size) float32 to (N, num_classes) logits."""

    def __init__(
        self,
        in_channels: int = 3,
        num_classes: int = 10,
        input_size: int = 32,
        patch_size: int = 4,
        depth: int = 12,
    ) -> None:
        super().__init__()
        check_integers(patch_size=(patch_size, 1, 64), depth=(depth, 1, 64))
        check_image_arguments(in_channels, num_classes, input_size, smallest=patch_size)
        if input_size % patch_size:
            raise ValueError(f"input_size must be a multiple of patch_size {patch_size}, found {input_size}")
        self.input_shape = (in_channels, input_size, input_size)
        self.patch_embed = PatchEmbedding(in_channels, patch_size)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, WIDTH))
        self.pos_embed = nn.Parameter(torch.zeros(1, (input_size // patch_size) ** 2 + 1, WIDTH))
        self.blocks = nn.Sequential(*(Block() for _ in range(depth)))
        self.norm = nn.LayerNorm(WIDTH, eps=EPS)
        self.head = nn.Linear(WIDTH, num_classes)
        nn.init.trunc_normal_(self.pos_embed, std=0.02)
        nn.init.normal_(self.cls_token, std=0.02)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)

    def forward(self, x: Tensor) -> Tensor:
        patches = self.patch_embed(x)
        tokens = torch.cat([self.cls_token.expand(patches.shape[0], -1, -1), patches], 1) + self.pos_embed
        return self.head(self.norm(self.blocks(tokens))[:, 0])


def tiny_vit(
    in_channels: int = 3, num_classes: int = 10, input_size: int = 32, patch_size: int = 4, depth: int = 12
) -> TinyVit:
    """Build a small vision transformer for CIFAR, of `depth` blocks; see the module's docstring."""
    return TinyVit(in_channels, num_classes, input_size, patch_size, depth)
