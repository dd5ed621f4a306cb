"""CoDeQ in a plain PyTorch loop: a network of your own becomes zeros and 4-bit codes, and an ONNX file.

python examples/plain_pytorch.py -o plain_pytorch.onnx
"""

import argparse
from pathlib import Path

import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import codeq
from export import export_onnx, load_session


class Network(nn.Module):
    """(N, 1, 8, 8) float32 -> (N, 10) logits."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(1, 32, 3, padding=1), nn.BatchNorm2d(32)
        self.conv2, self.bn2 = nn.Conv2d(32, 64, 3, stride=2, padding=1), nn.BatchNorm2d(64)
        self.fc = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.bn1(self.conv1(x)))
        x = F.relu(self.bn2(self.conv2(x)))
        return self.fc(x.mean((2, 3)))


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("-o", "--output", type=Path, default=Path("plain_pytorch.onnx"))
    arguments = parser.parse_args(argv)

    torch.manual_seed(0)
    data = load_digits()
    order = torch.randperm(len(data.target))
    images = torch.tensor(data.images, dtype=torch.float32).unsqueeze(1)[order] / 16
    labels = torch.tensor(data.target)[order]
    test_images, test_labels = images[1437:], labels[1437:]
    loader = DataLoader(TensorDataset(images[:1437], labels[:1437]), batch_size=32, shuffle=True)
    steps = arguments.epochs * len(loader)

    model = Network()
    print(codeq.attach(model, bits=4))
    # In the paper theta's learning rate times the number of steps is about 30; a run as short as this raises the rate.
    groups = codeq.param_groups(
        model, torch.optim.AdamW, lr=6e-3, weight_decay=1e-2, lambda_dz=0.25, theta_lr=min(30 / steps, 0.2)
    )
    optimizer = torch.optim.AdamW(groups)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for epoch in range(arguments.epochs):
        if epoch == arguments.epochs - max(1, arguments.epochs // 5):
            codeq.freeze(model)  # the grids stay as they are, the weights settle on them
        for batch, expected in loader:
            loss = F.cross_entropy(model(batch), expected)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            scheduler.step()
    model.eval()

    print(codeq.summary(model, (1, 8, 8)))
    # Writes nothing unless onnxruntime computes what PyTorch does. force: a second run replaces the first one's file.
    print(export_onnx(model, (test_images,), arguments.output, force=True))
    calibration = images[:64].clone()  # so that the checkpoint alone is enough for --activations int8 later
    codeq.save(arguments.output.with_suffix(".pt"), model, input_shape=(1, 8, 8), calibration_inputs=calibration)
    (logits,) = load_session(arguments.output).run(None, {"input": test_images.numpy()})
    accuracy = (torch.from_numpy(logits).argmax(1) == test_labels).float().mean()
    print(f"test accuracy in onnxruntime {accuracy:.2%}")


if __name__ == "__main__":
    main()
