"""Measure the accuracy of a classifier, with the work divided among the processes of a run."""

import torch
from torch import nn

from codeq.data import Split, batches
from codeq.training.distributed import Ranks, total

EVALUATION_BATCH = 500


@torch.no_grad()
def accuracy(network: nn.Module, split: Split, ranks: Ranks, device: torch.device) -> float:
    """Count the inputs whose largest output is at their label, in eval mode; every process must call this.

    Args:
        network: `(N, *input_shape)` float32 -> logits `(N, classes)`, on `device`. Its mode is left as it is.
        split: What to measure on, not augmented.
        ranks: From `start_ranks`; each process takes a part of the split.
        device: Where to compute.

    Returns:
        Their share, in [0, 1], the same on every process.
    """
    training = network.training
    network.eval()
    counts = torch.zeros(2, dtype=torch.int64)
    index = torch.arange(len(split)).tensor_split(ranks.world_size)[ranks.rank]
    # A process may have no input: there are fewer than processes.
    for inputs, labels in batches(split, index.split(EVALUATION_BATCH) if len(index) else ()):
        outputs = network(inputs.to(device))
        counts += torch.tensor([int((outputs.argmax(1).cpu() == labels).sum()), len(labels)])
    network.train(training)
    correct, count = total(counts).tolist()
    return correct / count
