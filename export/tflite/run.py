"""Run a .tflite file on inputs, a batch at a time: with XNNPACK, as LiteRT does by default, or with its own kernels."""

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from codeq.errors import first_line
from codeq.toolkit.quiet import quiet_native
from export.errors import ExportError
from export.program.run import batches
from export.tflite.runtime import interpreter
from export.tflite.weights.layout import Order

XNNPACK, BUILTIN = "xnnpack", "builtin"
"""Sets of kernels."""


def open_interpreter(file: bytes | Path, kernels: str = XNNPACK, threads: int = 1) -> Any:
    """LiteRT's interpreter of a file, its tensors not allocated; a path is mapped into memory.

    Raises:
        ExportError: LiteRT is not installed.
        ValueError: It refuses the file.
    """
    module = interpreter()
    kind = module.OpResolverType
    resolver = kind.AUTO if kernels == XNNPACK else kind.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return module.Interpreter(
            model_path=str(file) if isinstance(file, Path) else None,
            model_content=None if isinstance(file, Path) else file,
            num_threads=threads,
            experimental_op_resolver_type=resolver,
        )


def allocate(session: Any) -> None:
    """Allocate an interpreter's tensors for the shapes of its inputs, without LiteRT's note of the delegate."""
    with quiet_native("INFO:"):
        session.allocate_tensors()


def run_file(
    data: bytes, inputs: Sequence[Tensor], batch_size: int, kernels: str = XNNPACK, orders: Sequence[Order | None] = ()
) -> list[np.ndarray]:
    """All outputs for all inputs, concatenated.

    Args:
        data: The file.
        inputs: In the file's order, PyTorch's layout.
        batch_size: Fed at a time; the file's inputs are resized to it.
        kernels: XNNPACK or BUILTIN.
        orders: Of each input's axes as the file takes them; () for PyTorch's.

    Raises:
        ExportError: LiteRT cannot run it.
    """
    try:
        session = open_interpreter(data, kernels)
        numbers = [detail["index"] for detail in session.get_input_details()]
        chunks: list[list[np.ndarray]] = []
        for batch in batches(inputs, batch_size):
            arrays = [x.contiguous().numpy() for x in batch]
            if orders:
                arrays = [x if order is None else x.transpose(order) for x, order in zip(arrays, orders, strict=True)]
            if not chunks:
                for number, array in zip(numbers, arrays, strict=True):
                    session.resize_tensor_input(number, array.shape)
                allocate(session)
            for number, array in zip(numbers, arrays, strict=True):
                session.set_tensor(number, np.ascontiguousarray(array))
            session.invoke()
            details = session.get_output_details()
            chunks.append([session.get_tensor(detail["index"]) for detail in details])
    except (RuntimeError, ValueError) as error:
        raise ExportError(f"LiteRT cannot run the file at batch {batch_size}: {first_line(error)}") from error
    axes = [batch_axis(detail["shape_signature"]) for detail in details]
    return [np.concatenate(parts, axis) for axis, parts in zip(axes, zip(*chunks, strict=True), strict=True)]


def batch_axis(signature: np.ndarray) -> int:
    """The first open axis, as the file's tensor has it: final states of recurrent layers have it second."""
    return int(np.argmax(signature < 0)) if len(signature) else 0
