"""The share of a test set that each way of computing a network classifies as labelled."""

import numpy as np
import torch
from torch import Tensor, nn

from runtime_tests.agreement.accuracy import BATCH_SIZE, compare_accuracy


class Numbers:
    """A test set whose inputs are its labels, 0 to 9 in turn."""

    def __len__(self) -> int:
        return 250

    def load(self, index: Tensor, draws: Tensor | None = None) -> Tensor:
        return (index % 10)[:, None].float()

    labels = torch.arange(250) % 10


def test_every_input_is_counted_once() -> None:
    seen: list[int] = []

    def right(inputs: Tensor) -> list[np.ndarray]:
        seen.append(len(inputs))
        return [np.eye(10)[inputs[:, 0].long().numpy()]]

    def zero(inputs: Tensor) -> list[np.ndarray]:
        return [np.eye(10)[np.zeros(len(inputs), int)]]

    model = nn.Dropout().train()
    found = compare_accuracy(model, {"right": right, "zero": zero}, 1, Numbers())  # type: ignore[arg-type]
    assert found == {"right": 1.0, "zero": 0.1}
    assert seen == [BATCH_SIZE, BATCH_SIZE, 50]
    assert model.training
