"""Networks that edge devices run, trained here in seconds, on scikit-learn's digits: real weights, not random ones.

Each is given with inputs of its own kind that it was not trained on. Transformers are those of Hugging Face, built from
a small config, once as they are and once trained from weights with outliers as large ones have them: a few channels of
each norm are `OUTLIER` times the others (Dettmers et al. 2022, "LLM.int8()", arXiv:2208.07339, section 4: 6 of
thousands, about 20 times the rest).
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
import transformers
from torch import Tensor, nn

import models
from codeq.data.digits import load_digits

OUTLIER = 20.0
OUTLIER_CHANNELS = 2
CLASSES = 10
CALIBRATION = 128
TEST = 200


@dataclass(frozen=True)
class Trained:
    """Holds a network in eval mode, inputs to calibrate with and others to judge on, and the share it has right."""

    model: nn.Module
    calibration: Tensor
    test: Tensor
    accuracy: float


class UNet(nn.Module):
    """Down twice, up twice, each time meeting what it left (Ronneberger et al. 2015, arXiv:1505.04597)."""

    def __init__(self, transposed: bool, width: int = 8) -> None:
        super().__init__()
        self.transposed = transposed
        self.one, self.two, self.three = _conv(1, width), _conv(width, 2 * width), _conv(2 * width, 3 * width)
        self.up_two: nn.Module = nn.ConvTranspose2d(3 * width, 2 * width, 2, 2)
        self.up_one: nn.Module = nn.ConvTranspose2d(2 * width, width, 2, 2)
        if not transposed:
            self.up_two = nn.Sequential(_Bilinear(), nn.Conv2d(3 * width, 2 * width, 1))
            self.up_one = nn.Sequential(_Bilinear(), nn.Conv2d(2 * width, width, 1))
        self.join_two, self.join_one = _conv(4 * width, 2 * width), _conv(2 * width, width)
        self.head = nn.Conv2d(width, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        one = self.one(x)
        two = self.two(F.max_pool2d(one, 2))
        three = self.three(F.max_pool2d(two, 2))
        two = self.join_two(torch.cat([two, self.up_two(three)], 1))
        result: Tensor = self.head(self.join_one(torch.cat([one, self.up_one(two)], 1)))
        return result


class _Bilinear(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return F.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)


def _conv(inputs: int, outputs: int) -> nn.Module:
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU())


class Logits(nn.Module):
    """A classifier of transformers that answers with its logits alone."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.network(x).logits
        return logits


def _segmentation(images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Noisy digits of 16 x 16, and for each pixel whether it is ink of a digit below 5, of another, or none."""
    large = F.interpolate(images, scale_factor=2.0, mode="bilinear")
    noise = 0.1 * torch.randn(large.shape, generator=torch.Generator().manual_seed(0))
    ink = (large[:, 0] > 0.5).long()
    return large + noise, ink * (1 + (labels >= 5).long()[:, None, None])


def _sound(images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Digits as keyword spotting gets sound: 49 frames of 10 coefficients."""
    return F.interpolate(images, size=(49, 10), mode="bilinear"), labels


def _rows(images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    return images[:, 0], labels


def _tokens(images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Gray levels as words, behind one that is none of them."""
    words = (images.flatten(1)[:, ::2] * 16).round().long()
    return torch.cat([torch.full_like(words[:, :1], 17), words], 1), labels


def _vit(outliers: bool) -> nn.Module:
    config = transformers.ViTConfig(
        image_size=8, patch_size=2, num_channels=1, hidden_size=48, intermediate_size=96, num_hidden_layers=3,
        num_attention_heads=3, num_labels=CLASSES, initializer_range=0.1,
        hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
    )  # fmt: skip
    model = transformers.ViTForImageClassification(config)
    return Logits(_with_outliers(model) if outliers else model)


def _bert(outliers: bool) -> nn.Module:
    config = transformers.BertConfig(
        vocab_size=18, max_position_embeddings=33, hidden_size=48, intermediate_size=96, num_hidden_layers=2,
        num_attention_heads=3, num_labels=CLASSES, initializer_range=0.1,
        hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
    )  # fmt: skip
    model = transformers.BertForSequenceClassification(config)
    return Logits(_with_outliers(model) if outliers else model)


def _with_outliers(model: nn.Module) -> nn.Module:
    """Let a few channels behind every norm start far larger than the others; training keeps them so."""
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.LayerNorm):
                module.weight[:OUTLIER_CHANNELS] *= OUTLIER
        for module in model.modules():  # as training makes them: what reads them has small weights there
            if isinstance(module, nn.Linear) and module.in_features == 48:
                module.weight[:, :OUTLIER_CHANNELS] /= OUTLIER
    return model


Prepare = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class Recipe:
    """Says how a network is built, what it reads and how long it is trained."""

    build: Callable[[], nn.Module]
    prepare: Prepare
    steps: int
    rate: float = 3e-3


NETWORKS = {
    "unet_transposed": Recipe(lambda: UNet(transposed=True), _segmentation, 80),
    "unet_bilinear": Recipe(lambda: UNet(transposed=False), _segmentation, 80),
    "ds_cnn": Recipe(lambda: models.create("ds_cnn", num_classes=CLASSES), _sound, 100),
    "vit": Recipe(lambda: _vit(outliers=False), lambda images, labels: (images, labels), 200, 2e-3),
    "vit_outliers": Recipe(lambda: _vit(outliers=True), lambda images, labels: (images, labels), 200, 2e-3),
    "bert": Recipe(lambda: _bert(outliers=False), _tokens, 500, 2e-3),
    "bert_outliers": Recipe(lambda: _bert(outliers=True), _tokens, 800, 4e-3),
    "gru": Recipe(lambda: models.create("gru", in_features=8, length=8, num_classes=CLASSES), _rows, 80),
}


def train(name: str, *, batch: int = 64) -> Trained:
    """Train a network of the table, from one seed."""
    recipe = NETWORKS[name]
    torch.manual_seed(0)
    model = recipe.build()
    data = load_digits(shift=0, flip=False)
    index = torch.arange(len(data.train))
    images, labels = data.train.load(index), data.train.labels
    inputs, wanted = recipe.prepare((images - images.min()) / (images.max() - images.min()), labels)
    held, held_wanted = inputs[:TEST], wanted[:TEST]
    inputs, wanted = inputs[TEST:], wanted[TEST:]
    optimizer = torch.optim.AdamW(model.parameters(), recipe.rate)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, recipe.rate, recipe.steps)
    model.train()
    for _ in range(recipe.steps):
        chosen = torch.randint(len(inputs), (batch,))
        optimizer.zero_grad()
        F.cross_entropy(model(inputs[chosen]), wanted[chosen]).backward()
        optimizer.step()
        schedule.step()
    model.eval()
    with torch.no_grad():
        accuracy = float((model(held).argmax(1) == held_wanted).double().mean())
    return Trained(model, inputs[:CALIBRATION], held, accuracy)
