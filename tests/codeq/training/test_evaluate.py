"""Accuracy: counted by hand, in eval mode, divided among ranks."""

import torch
from torch import Tensor, nn

from codeq.data.tensors import TensorSplit
from codeq.training.distributed import Ranks
from codeq.training.evaluate import EVALUATION_BATCH, accuracy


class Parity(nn.Module):
    """Says of a number whether it is odd; in training it is always wrong."""

    def forward(self, x: Tensor) -> Tensor:
        odd = x.flatten().remainder(2)
        return torch.stack([odd, 1 - odd] if self.training else [1 - odd, odd], 1)


def numbers(labels: Tensor) -> TensorSplit:
    pixels = torch.arange(len(labels)).remainder(256).to(torch.uint8).reshape(-1, 1, 1, 1)
    return TensorSplit(pixels, labels, max_pixel=1, mean=[0.0], std=[1.0], shift=0, flip=False)


def test_accuracy_by_hand() -> None:
    network, device = Parity(), torch.device("cpu")
    assert accuracy(network, numbers(torch.tensor([0, 1, 0, 0])), Ranks(0, 1), device) == 0.75
    assert network.training
    count = EVALUATION_BATCH + 100
    assert accuracy(network, numbers(torch.arange(count).remainder(2)), Ranks(0, 1), device) == 1


def test_a_rank_counts_its_part() -> None:
    split, device = numbers(torch.tensor([0, 1, 1, 0, 1])), torch.device("cpu")
    # Without a process group a rank sees its own part alone: 0, 1, 2 and 3, 4.
    assert accuracy(Parity(), split, Ranks(0, 2), device) == 2 / 3
    assert accuracy(Parity(), split, Ranks(1, 2), device) == 0
