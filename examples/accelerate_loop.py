"""CoDeQ in a Hugging Face Accelerate loop, with gradient accumulation, bfloat16 and any number of processes.

python examples/accelerate_loop.py -o accelerate_loop.onnx --mixed-precision bf16
"""

import argparse
import math
from pathlib import Path

import torch
import torch.nn.functional as F
from accelerate import Accelerator, DistributedDataParallelKwargs
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import codeq
from export import export_onnx


class Network(nn.Module):
    """(N, 1, 8, 8) float32 -> (N, 10) logits."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.bn = nn.Conv2d(1, 32, 3, stride=2, padding=1), nn.BatchNorm2d(32)
        self.fc = nn.Linear(512, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(F.relu(self.bn(self.conv(x))).flatten(1))


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("-o", "--output", type=Path, default=Path("accelerate_loop.onnx"))
    parser.add_argument("--mixed-precision", choices=["no", "bf16"], default="no")
    arguments = parser.parse_args(argv)

    accelerator = Accelerator(
        mixed_precision=arguments.mixed_precision,
        gradient_accumulation_steps=2,
        # For several processes: after codeq.freeze the thetas have no gradient, which DDP must be told to expect.
        kwargs_handlers=[DistributedDataParallelKwargs(find_unused_parameters=True)],
    )
    torch.manual_seed(0)
    data = load_digits()
    order = torch.randperm(len(data.target))
    images = torch.tensor(data.images, dtype=torch.float32).unsqueeze(1)[order] / 16
    labels = torch.tensor(data.target)[order]
    test_images, test_labels = images[1437:], labels[1437:]
    loader = DataLoader(TensorDataset(images[:1437], labels[:1437]), batch_size=16, shuffle=True)
    steps = arguments.epochs * math.ceil(len(loader) / 2 / accelerator.num_processes)
    model = Network()
    accelerator.print(codeq.attach(model, bits=4))  # before prepare, which may wrap the network
    groups = codeq.param_groups(model, torch.optim.AdamW, lr=6e-3, lambda_dz=0.25, theta_lr=min(30 / steps, 0.2))
    optimizer = torch.optim.AdamW(groups)
    model, optimizer, loader = accelerator.prepare(model, optimizer, loader)
    for epoch in range(arguments.epochs):
        if epoch == arguments.epochs - max(1, arguments.epochs // 5):
            codeq.freeze(accelerator.unwrap_model(model))  # the grids stay as they are, the weights settle on them
        for batch, expected in loader:
            with accelerator.accumulate(model):
                accelerator.backward(F.cross_entropy(model(batch), expected))
                optimizer.step()
                optimizer.zero_grad()

    # Without False the casts to bfloat16 would stay in the network, and in its file.
    network = accelerator.unwrap_model(model, keep_fp32_wrapper=False).cpu().eval()
    if accelerator.is_main_process:
        print(codeq.summary(network, (1, 8, 8)))
        print(export_onnx(network, (test_images,), arguments.output, force=True))
        codeq.save(arguments.output.with_suffix(".pt"), network, input_shape=(1, 8, 8))
        accuracy = (network(test_images).argmax(1) == test_labels).float().mean()
        print(f"test accuracy {accuracy:.2%}")
    # A process that ends while another still works, or whose wrapped network still holds the group, may abort.
    accelerator.free_memory(model, optimizer, loader)
    del model, optimizer, loader, groups
    accelerator.wait_for_everyone()
    accelerator.end_training()


if __name__ == "__main__":
    main()
