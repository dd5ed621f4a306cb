"""Add tensors and operators to the graph of a file: names are unique, versions the lowest, equal constants one."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from export.tflite.builder.refusal import CannotLower
from export.tflite.builder.value import Value
from export.tflite.file.graph import Graph, Tensor
from export.tflite.file.operator_versions import operator_version
from export.tflite.weights.layout import Order, identity


class GraphWriter:
    """Holds a graph while it grows; it knows no network."""

    def __init__(self) -> None:
        self.graph = Graph()
        self._names: set[str] = set()
        self._numbers: dict[tuple[str, tuple[int, ...], bytes], int] = {}

    def tensor(self, value: Value | int) -> Tensor:
        """Give the tensor behind a value, or of a number."""
        return self.graph.tensors[value.tensor if isinstance(value, Value) else value]

    def unused_name(self, name: str) -> str:
        """Give a name for a new tensor, with a number where it is taken."""
        candidate, number = name, 1
        while candidate in self._names:
            candidate, number = f"{name}_{number}", number + 1
        self._names.add(candidate)
        return candidate

    def add_input(self, name: str, tensor: Tensor) -> int:
        """Add a tensor that the file takes as its input `name`; its number."""
        self._names.add(tensor.name)
        number = self.graph.inputs[name] = self.graph.add_tensor(tensor)
        return number

    def add_tensor(self, tensor: Tensor) -> int:
        """Add a tensor under the name that it has; its number."""
        return self.graph.add_tensor(tensor)

    def number(self, value: np.ndarray, label: str = "constant") -> int:
        """Add a constant tensor, or find an equal one; its number."""
        key = (value.dtype.str, value.shape, value.tobytes())
        if key not in self._numbers:
            self._numbers[key] = self.add_tensor(Tensor(self.unused_name(label), value.shape, value.dtype, value))
        return self._numbers[key]

    def indices(self, values: Sequence[Any], label: str) -> int:
        """Add a constant tensor of int32: a shape, axes, paddings."""
        return self.number(np.array(values, np.int32), label)

    def operator(
        self,
        code: str,
        operands: Sequence[Value | int],
        like: Tensor,
        order: Order,
        *,
        label: str = "",
        version: int | None = None,
        **options: Any,
    ) -> Value:
        """Add an operator with one result.

        Args:
            code: The schema's name.
            operands: Values, or numbers of tensors.
            like: What its result is like; the name is taken as a wish.
            order: Of the result's axes.
            label: Goes into the result's name.
            version: None takes the one for floats or int8 codes.
            options: By the schema's names.
        """
        named = replace(like, name=f"{like.name}/{label}") if label else like
        return self.operator_of_several(code, operands, [named], order, version=version, **options)[0]

    def operator_of_several(
        self,
        code: str,
        operands: Sequence[Value | int],
        likes: Sequence[Tensor],
        order: Order,
        *,
        version: int | None = None,
        **options: Any,
    ) -> list[Value]:
        """Add an operator with several results, of what is in `likes` and one order; else as `operator`."""
        likes = [replace(like, name=self.unused_name(like.name), data=None, form="dense") for like in likes]
        numbers = [operand.tensor if isinstance(operand, Value) else operand for operand in operands]
        if version is None:
            version = operator_version(code, self.tensor(numbers[0]).dtype, likes[0].dtype)
        results = [self.add_tensor(like) for like in likes]
        self.graph.add_operator(code, version, numbers, results[0], options, results[1:])
        return [Value(result, order, like.quantization) for result, like in zip(results, likes, strict=True)]

    def reshape(self, value: Value, shape: Sequence[int], open_batch: tuple[int, ...], name: str) -> Value:
        """Give the same values another shape, as stored. The result's order is the plain one.

        Raises:
            CannotLower: More than one size depends on the batch.
        """
        if len(open_batch) > 1:
            raise CannotLower("two of its sizes depend on the batch, which a .tflite file cannot hold")
        sizes = [-1 if axis in open_batch else size for axis, size in enumerate(shape)]
        like = Tensor(name, tuple(shape), self.tensor(value).dtype, None, value.quantization, open_batch)
        return self.operator("RESHAPE", [value, self.indices(sizes, "shape")], like, identity(len(sizes)))
