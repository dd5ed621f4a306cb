"""This module measures accuracy on a whole test set for several ways to compute one network; each batch is loaded once
for all of them.
"""

from collections.abc import Callable, Mapping

import numpy as np
import torch
from torch import Tensor, nn

from codeq import checkpoint
from codeq.data import Dataset, Split, batches, load_dataset
from codeq.errors import DataError
from codeq.graph.eval_mode import eval_mode

Run = Callable[[Tensor], list[np.ndarray]]
BATCH_SIZE = 100
PREPROCESSING_TOLERANCE = 1e-6
"""Older checkpoints hold mean and standard deviation as float32 reductions: equal data gives them within rounding."""


def compare_accuracy(model: nn.Module, runs: Mapping[str, Run], batch_size: int, test: Split) -> dict[str, float]:
    """Return the share of inputs that each classifies as labelled, in [0, 1].

    Args:
        model: The network, in eval mode meanwhile.
        runs: By name; outputs for a batch, of which the first holds the classes.
        batch_size: That runs need, or like.
        test: All of it is taken.
    """
    correct = dict.fromkeys(runs, 0)
    # Whole batches of a fixed size, as many as fit, so that a loader has more than one image to work on.
    loaded_at_once = batch_size * max(1, BATCH_SIZE // batch_size)
    with torch.no_grad(), eval_mode(model):
        for inputs, labels in batches(test, torch.arange(len(test)).split(loaded_at_once)):
            for name, run in runs.items():
                correct[name] += int((run(inputs)[0].argmax(1) == labels.numpy()).sum())
    return {name: count / len(test) for name, count in correct.items()}


def load_test_data(loaded: checkpoint.Checkpoint, spec: str) -> Dataset:
    """Load a data set for a checkpoint's network.

    Raises:
        DataError: It cannot be loaded, or has other inputs or another preprocessing than the network was trained on.
        CheckpointError: The network takes several inputs.
    """
    shape = loaded.only_input_shape("--data has one; leave it out, and the inputs held in the checkpoint are taken")
    data = load_dataset(spec, input_size=shape[-1], workers=torch.get_num_threads())
    if data.input_shape != shape:
        raise DataError(f"{spec}: has inputs of shape {data.input_shape}, {loaded.path} takes {shape}")
    preprocessing = data.preprocessing
    for name, values in loaded.preprocessing.items():
        found = preprocessing.get(name, [])
        if len(found) != len(values) or any(
            abs(a - b) > PREPROCESSING_TOLERANCE for a, b in zip(found, values, strict=True)
        ):
            raise DataError(f"{spec}: has {name} {found}, {loaded.path} was trained on data with {name} {values}")
    return data
