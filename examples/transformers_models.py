"""Hugging Face transformers as networks for our commands: a ViT, a ConvNeXt and a BERT, built from a config.

python -m codeq.train --model examples.transformers_models:vit --data digits --epochs 20 -o vit.pt
python -m export.onnx vit.pt --model examples.transformers_models:vit

As a script: train the BERT in a loop of its own, on digits read as sequences of 16 gray levels, and export it by the
names of its inputs.

python examples/transformers_models.py -o bert.onnx
"""

import argparse
from pathlib import Path

import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    ConvNextConfig,
    ConvNextForImageClassification,
    ViTConfig,
    ViTForImageClassification,
)

import codeq
from export import export_onnx, load_session

CLASSIFY = 17
"""The token before the 17 gray levels, at whose place the answer is read, as at [CLS]."""


class Logits(nn.Module):
    """A classifier that answers with its logits alone, as codeq.train and most loops expect."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, pixel_values: Tensor) -> Tensor:
        return self.network(pixel_values).logits


def vit(image_size: int = 8, patch_size: int = 2, channels: int = 1, width: int = 64, classes: int = 10) -> nn.Module:
    """(N, channels, image_size, image_size) float32 -> (N, classes) logits."""
    config = ViTConfig(
        image_size=image_size,
        patch_size=patch_size,
        num_channels=channels,
        hidden_size=width,
        intermediate_size=2 * width,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_labels=classes,
    )
    return Logits(ViTForImageClassification(config))


def convnext(patch_size: int = 1, channels: int = 1, width: int = 32, classes: int = 10) -> nn.Module:
    """(N, channels, H, W) float32 -> (N, classes) logits."""
    config = ConvNextConfig(
        num_channels=channels,
        patch_size=patch_size,
        num_stages=2,
        hidden_sizes=[width, 2 * width],
        depths=[1, 1],
        num_labels=classes,
    )
    return Logits(ConvNextForImageClassification(config))


def bert(vocabulary: int = 18, length: int = 17, width: int = 64, classes: int = 10) -> nn.Module:
    """(N, length) int64 token ids, and an attention mask if there is one -> transformers' output with `logits`."""
    return BertForSequenceClassification(
        BertConfig(
            vocab_size=vocabulary,
            max_position_embeddings=length,
            hidden_size=width,
            intermediate_size=2 * width,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_labels=classes,
        )
    )


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("-o", "--output", type=Path, default=Path("bert.onnx"))
    arguments = parser.parse_args(argv)

    torch.manual_seed(0)
    data = load_digits()
    order = torch.randperm(len(data.target))
    images = torch.tensor(data.images, dtype=torch.float32).unsqueeze(1)[order]
    levels = F.avg_pool2d(images, 2).round().long().flatten(1)
    tokens, labels = F.pad(levels, (1, 0), value=CLASSIFY), torch.tensor(data.target)[order]
    test_tokens, test_labels = tokens[1437:], labels[1437:]
    loader = DataLoader(TensorDataset(tokens[:1437], labels[:1437]), batch_size=32, shuffle=True)
    steps = arguments.epochs * len(loader)

    model = bert()
    print(codeq.attach(model, bits=4))
    groups = codeq.param_groups(
        model, torch.optim.AdamW, lr=2e-3, weight_decay=1e-2, lambda_dz=0.02, theta_lr=min(30 / steps, 0.2)
    )
    optimizer = torch.optim.AdamW(groups)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for epoch in range(arguments.epochs):
        if epoch == arguments.epochs - max(1, arguments.epochs // 5):
            codeq.freeze(model)  # the grids stay as they are, the weights settle on them
        for batch, expected in loader:
            loss = F.cross_entropy(model(batch).logits, expected)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            scheduler.step()
    model.eval()

    # By the names of its arguments, so that the file has them too; a mask makes room for padded sequences.
    inputs = {"input_ids": test_tokens, "attention_mask": torch.ones_like(test_tokens)}
    print(export_onnx(model, inputs, arguments.output, force=True))
    codeq.save(
        arguments.output.with_suffix(".pt"),
        model,
        input_shape=(tokens.shape[1],),
        factory="examples.transformers_models:bert",  # named in the error of a command that is not told
        calibration_inputs=tokens[:64].clone(),
        held_inputs=test_tokens[:64].clone(),
    )
    session = load_session(arguments.output)
    (logits,) = session.run(None, {name: tensor.numpy() for name, tensor in inputs.items()})
    accuracy = (torch.from_numpy(logits).argmax(1) == test_labels).float().mean()
    print(f"test accuracy in onnxruntime {accuracy:.2%}")


if __name__ == "__main__":
    main()
