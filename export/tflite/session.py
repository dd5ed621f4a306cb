"""A session is a .tflite file opened in LiteRT: in this process, or in another one by the same calls (child.py).

It imports no PyTorch, so that a process that only runs files starts at once.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from export.tflite.run import allocate, open_interpreter


@dataclass(frozen=True)
class TensorDetail:
    """Describes an input or an output as it lies in the file.

    Attributes:
        index: Its number.
        name: Its name.
        shape: As the file has it.
        signature: The same with -1 for open sizes; empty where all are fixed.
        dtype: numpy's name of its type.
        scale, zero_point: Its grid; a scale of 0 where it has none, or one for each channel.
    """

    index: int
    name: str
    shape: tuple[int, ...]
    signature: tuple[int, ...]
    dtype: str
    scale: float
    zero_point: int


class AnySession(Protocol):
    """This protocol is a file that is open, its tensors allocated.

    Attributes:
        inputs, outputs: What goes in and out.
        shapes: The current shapes of the inputs.
    """

    inputs: tuple[TensorDetail, ...]
    outputs: tuple[TensorDetail, ...]
    shapes: tuple[tuple[int, ...], ...]

    def resize(self, shapes: Sequence[tuple[int, ...]]) -> None:
        """Give the inputs other shapes.

        Raises:
            RuntimeError, ValueError: LiteRT refuses them.
        """

    def run(self, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Compute all outputs.

        Raises:
            RuntimeError, ValueError: LiteRT refuses the inputs, or an operator fails.
        """


class Session:
    """See `AnySession`: in this process.

    Args:
        file: Its bytes, or a path that is mapped into memory.
        kernels, threads: As for `open_interpreter`.
    """

    def __init__(self, file: bytes | Path, kernels: str, threads: int) -> None:
        self._interpreter = open_interpreter(file, kernels, threads)
        self.inputs = tuple(map(_describe, self._interpreter.get_input_details()))
        allocate(self._interpreter)
        self.outputs = tuple(map(_describe, self._interpreter.get_output_details()))
        self.shapes = self._shapes()

    def resize(self, shapes: Sequence[tuple[int, ...]]) -> None:
        for detail, shape in zip(self.inputs, shapes, strict=True):
            self._interpreter.resize_tensor_input(detail.index, shape)
        allocate(self._interpreter)
        self.shapes = self._shapes()

    def run(self, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
        for array, detail in zip(arrays, self.inputs, strict=True):
            self._interpreter.set_tensor(detail.index, array)
        self._interpreter.invoke()
        return [self._interpreter.get_tensor(detail.index) for detail in self.outputs]

    def _shapes(self) -> tuple[tuple[int, ...], ...]:
        return tuple(tuple(map(int, detail["shape"])) for detail in self._interpreter.get_input_details())


def _describe(detail: Any) -> TensorDetail:
    scale, zero_point = detail["quantization"]
    return TensorDetail(
        int(detail["index"]),
        str(detail["name"]),
        tuple(map(int, detail["shape"])),
        tuple(map(int, detail["shape_signature"])),
        np.dtype(detail["dtype"]).name,
        float(scale),
        int(zero_point),
    )
