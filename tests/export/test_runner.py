"""Inputs are fed a batch at a time, and those of another network are refused."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from export.errors import ExportError
from export.input_slot import InputSlot
from export.runner import check_inputs, run_batches

pytestmark = pytest.mark.quick


class Doubling:
    """A runner that keeps the sizes it was fed and reuses the memory of its output."""

    runtime, version, note = "none", "1", ""
    inputs = (InputSlot("x", (None, 2), np.dtype(np.float32)),)

    def __init__(self) -> None:
        self.sizes: list[int] = []
        self.memory = np.zeros((9, 2), np.float32)

    def open(self) -> None: ...

    def prepare(self, arrays: Sequence[np.ndarray]) -> np.ndarray:
        return arrays[0]

    def run(self, prepared: np.ndarray) -> list[np.ndarray]:
        self.sizes.append(len(prepared))
        self.memory[: len(prepared)] = 2 * prepared
        return [self.memory[: len(prepared)]]

    def finish(self, outputs: list[np.ndarray]) -> list[np.ndarray]:
        return [outputs[0] + 1]


class Raw(Doubling):
    def finish(self, outputs: list[np.ndarray]) -> list[np.ndarray]:
        return outputs


@pytest.mark.parametrize(("kind", "added"), [(Doubling, 1), (Raw, 0)])
def test_batches_are_joined_in_order(kind: type[Doubling], added: int) -> None:
    """Raw hands out its memory again and again: what is joined must be copies."""
    runner = kind()
    inputs = torch.arange(10.0).reshape(5, 2)
    (found,) = run_batches(runner, (inputs,), 2)
    np.testing.assert_array_equal(found, 2 * inputs.numpy() + added)
    assert runner.sizes == [2, 2, 1]


def test_open_sizes_are_filled_in() -> None:
    assert InputSlot("x", (None, 3, None), np.dtype(np.float32)).at_batch(4) == (4, 3, 4)


@pytest.mark.parametrize(
    ("inputs", "names", "text"),
    [
        ((torch.ones(1, 2),) * 2, (), "takes 1 inputs, found 2"),
        ((torch.ones(1, 2),), ("ids",), "takes x, found ids"),
        ((torch.ones(1, 3),), (), r"input 'x' takes float32 \['N', 2\], found float32 \[1, 3\]"),
        ((torch.ones(1, 2, dtype=torch.int64),), (), r"found int64 \[1, 2\]; is it the file of another network\?"),
        ((torch.ones(1, 2, 1),), (), r"found float32 \[1, 2, 1\]"),
    ],
)
def test_inputs_of_another_network(inputs: tuple[torch.Tensor, ...], names: tuple[str, ...], text: str) -> None:
    with pytest.raises(ExportError, match=f"^net.onnx: .*{text}"):
        check_inputs(Doubling(), Path("net.onnx"), inputs, names)


def test_its_own_inputs_are_taken() -> None:
    check_inputs(Doubling(), Path("net.onnx"), (torch.ones(7, 2),), ("x",))
