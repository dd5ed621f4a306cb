"""A graph is what a .tflite file holds, in plain Python: tensors, operators, inputs, outputs. It knows no network.

A quantized tensor has real = scale * (code - zero_point), per tensor or along `axis`; activations are int8, so the zero
point is that of the uint8 code minus 128. Source: the TFLite schema, QuantizationParameters.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np

Option = int | float | bool
"""They are options of an operator, by the schema's names. Enumerations go by their number."""

SAME, VALID = 0, 1
"""Paddings of a window."""
NO_ACTIVATION, RELU, RELU_N1_TO_1, RELU6 = 0, 1, 2, 3
"""Clamps that an operator can apply to its result."""
ABSENT = -1
"""Stands for an operand that is left out."""

Form = Literal["dense", "csr", "int4"]
"""How data lies in the file: as it is, without its zeros (export/tflite/file/sparse.py), or two codes a byte."""


@dataclass(frozen=True, eq=False)
class TensorGrid:
    """Describes the grid of a tensor: `scale` float32 `(1,)` or `(C,)` along `axis`, one `zero_point` for all."""

    scale: np.ndarray
    zero_point: int = 0
    axis: int = 0

    def same_as(self, other: "TensorGrid | None") -> bool:
        """Tell whether two grids have the same codes for the same values."""
        return other is not None and (
            np.array_equal(self.scale, other.scale) and self.zero_point == other.zero_point and self.axis == other.axis
        )


@dataclass(frozen=True, eq=False)
class Tensor:
    """Describes a tensor. `shape` is that of a batch of 1; `open_batch` says on which axes a larger batch would show.

    `data` is None for what an operator computes; it is dense int8 codes in the forms "csr" and "int4" too.
    """

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype
    data: np.ndarray | None = None
    quantization: TensorGrid | None = None
    open_batch: tuple[int, ...] = ()
    form: Form = "dense"


@dataclass(frozen=True, eq=False)
class Operator:
    """Describes one operator: `code` and `options` by the schema's names, operands and results by tensor number."""

    code: str
    version: int
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    options: Mapping[str, Option]


@dataclass(eq=False)
class Graph:
    """Holds a graph in the order of execution. `inputs` and `outputs` give tensor numbers by name."""

    tensors: list[Tensor] = field(default_factory=list)
    operators: list[Operator] = field(default_factory=list)
    inputs: dict[str, int] = field(default_factory=dict)
    outputs: dict[str, int] = field(default_factory=dict)

    def fix_batch(self, size: int) -> None:
        """Give every open axis the size that it has at a batch of so many, and leave none open."""
        for number, tensor in enumerate(self.tensors):
            if tensor.open_batch:
                shape = tuple(n * size if axis in tensor.open_batch else n for axis, n in enumerate(tensor.shape))
                self.tensors[number] = replace(tensor, shape=shape, open_batch=())

    def add_tensor(self, tensor: Tensor) -> int:
        """Append a tensor; its number."""
        self.tensors.append(tensor)
        return len(self.tensors) - 1

    def add_operator(
        self,
        code: str,
        version: int,
        inputs: Sequence[int],
        output: int,
        options: Mapping[str, Option],
        more: Sequence[int] = (),
    ) -> None:
        """Append an operator; `more` are its results behind the first."""
        self.operators.append(Operator(code, version, tuple(inputs), (output, *more), dict(options)))
