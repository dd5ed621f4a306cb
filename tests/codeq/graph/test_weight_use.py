"""Uses of a weight, whatever it went through first; what torch computes from weights alone is no use of one."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from codeq.graph.weight_use import WeightUse

pytestmark = pytest.mark.quick


def test_uses_by_hand() -> None:
    kernel, large, matrix, scale = torch.rand(2, 3, 1, 1), torch.rand(2, 3, 3, 3), torch.rand(4, 3), torch.rand(2)
    image, rows = torch.rand(1, 3, 5, 5), torch.rand(6, 3)
    use = WeightUse({"kernel": kernel, "large": large, "matrix": matrix}, [scale])
    with use:
        F.conv2d(image, kernel * scale.reshape(-1, 1, 1, 1))  # 25 positions x 2 x 3
        F.conv2d(image, large + F.pad(kernel, [1, 1, 1, 1]), padding=1)  # of the larger: 25 x 2 x 27
        F.conv_transpose2d(torch.rand(1, 2, 2, 2), weight=kernel)  # 4 positions x 2 x 3
        F.linear(F.linear(rows, matrix), matrix.detach().t())  # 6 x 12, twice
        rows @ matrix.t()
        F.conv2d(large, kernel)  # weights alone
        F.conv2d(image, torch.rand(2, 3, 1, 1))
    assert use.macs == {"kernel": 150 + 24, "large": 1350, "matrix": 3 * 72}


def test_a_state_of_zeros_is_an_input(rng: torch.Generator) -> None:
    matrix: Tensor = torch.rand(4, 4, generator=rng)
    use = WeightUse({"matrix": matrix}, [])
    with use:
        state = torch.zeros(1, 4)
        for _ in range(3):
            state = torch.tanh(F.linear(state, matrix))
    assert use.macs == {"matrix": 3 * 16}
