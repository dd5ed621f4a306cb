"""Distil knowledge: a quantized network learns from its float twin as well as from the labels.

    loss = (1 - share) * cross_entropy(student, labels) + share * T^2 * KL(softmax(teacher / T) || softmax(student / T))

Source: Hinton et al. 2015, "Distilling the Knowledge in a Neural Network", arXiv:1503.02531, section 2; for quantized
students Mishra & Marr 2018, "Apprentice", arXiv:1711.05852.
"""

from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from codeq import checkpoint
from codeq.checkpoint import UnnamedNetworkError
from codeq.errors import CheckpointError


def load_teacher(
    path: Path, input_shape: tuple[int, ...], num_classes: int, factory: Callable[[], nn.Module] | None = None
) -> checkpoint.Checkpoint:
    """Load a checkpoint to learn from; its network is in eval mode and without gradients.

    Args:
        path: The checkpoint.
        input_shape, num_classes: What the data has.
        factory: Builds the network where the checkpoint names none of the registry.

    Raises:
        CheckpointError: It cannot be read, is of a run that goes on, or is for other inputs or another number of
            classes.
    """
    try:
        teacher = checkpoint.load(path)
    except UnnamedNetworkError:
        if factory is None:
            raise
        teacher = checkpoint.load(path, factory)
    if teacher.training is not None and teacher.training.get("complete") is False:
        raise CheckpointError(f"--teacher {path}: is unfinished; finish it with --resume {path} or use its --best file")
    taken = teacher.only_input_shape("as --teacher it must take one input, as the data has")
    if taken != input_shape:
        raise CheckpointError(f"--teacher {path}: is for inputs {taken}, the data has {input_shape}")
    network = teacher.model.requires_grad_(False)
    with torch.no_grad():
        outputs = network(torch.zeros(1, *input_shape))
    if tuple(outputs.shape) != (1, num_classes):
        raise CheckpointError(f"--teacher {path}: has {outputs.shape[-1]} classes, the data has {num_classes}")
    return teacher


def distillation_loss(
    outputs: Tensor, labels: Tensor, taught: Tensor, *, share: float, temperature: float, label_smoothing: float = 0.0
) -> Tensor:
    """Compute the loss above, a float32 scalar.

    Args:
        outputs, taught: Logits of student and teacher, float32 `(N, classes)`.
        labels: int64 `(N,)`.
        share: The teacher's share of the loss, in [0, 1].
        temperature: T, positive.
        label_smoothing: Share of the labels spread over all classes.
    """
    hard = F.cross_entropy(outputs, labels, label_smoothing=label_smoothing)
    soft = F.kl_div(
        F.log_softmax(outputs / temperature, 1),
        F.log_softmax(taught / temperature, 1),
        reduction="batchmean",
        log_target=True,
    )
    return (1 - share) * hard + share * temperature**2 * soft
