"""This runner opens .tflite files in LiteRT, with XNNPACK. Inputs are resized to the batch; axes and codes are as the
file has them.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from codeq.errors import first_line
from export.errors import ExportError
from export.metadata import KEY
from export.program.codes import UINT8_TO_INT8
from export.program.names import codes_name
from export.runner import InputSlot
from export.tflite.file.flatbuffer import read, read_metadata, with_outputs
from export.tflite.run import XNNPACK, allocate, batch_axis, open_interpreter
from export.tflite.runtime import installed_version
from export.tflite.stored_file import DAMAGED, read_bytes, read_file
from export.tflite.weights.layout import CHANNELS_LAST, Order, identity


class LiteRtRunner:
    """See `Runner`. A file that is not ours is fed in its own order of axes.

    Args:
        path: A .tflite file, whoever wrote it.
        threads, look_at: As for `Backend.open_runner`.
        kernels: XNNPACK or BUILTIN.
        expose: Names of further tensors that come behind those looked at, as they lie in the file.
    """

    runtime = "LiteRT"
    note = ""
    inputs: tuple[InputSlot, ...] = ()

    def __init__(
        self,
        path: Path,
        threads: int | None = None,
        look_at: Sequence[str] = (),
        *,
        kernels: str = XNNPACK,
        expose: Sequence[str] = (),
    ) -> None:
        self.version = installed_version()
        self.path = path
        self.threads = threads or 1
        self.kernels = kernels
        data = read_bytes(path)
        self.channels_last, self.fixed, self.orders = False, False, tuple[Order, ...]()
        self.names: tuple[str, ...] = ()
        try:
            ours = read_metadata(read(data), KEY) is not None
        except DAMAGED as error:
            raise ExportError(f"{path}: is damaged ({type(error).__name__})") from error
        if ours or look_at:
            file = read_file(path)
            missing = [name for name in look_at if name not in file.codes]
            if missing:
                raise ExportError(f"{path}: has no codes of {missing[0]!r}")
            self.channels_last, self.fixed = file.channels_last_io, file.fixed_batch is not None
            self.names = file.inputs
            self.orders = tuple(file.codes[name] for name in look_at)
        self.exposed = len(expose)
        self.content: Path | bytes = path
        if look_at or expose:
            self.content = with_outputs(data, [*map(codes_name, look_at), *expose])

    def open(self) -> None:
        try:
            self.session = open_interpreter(self.content, self.kernels, self.threads)
            self.details = self.session.get_input_details()
            allocate(self.session)
        except (RuntimeError, ValueError) as error:
            raise ExportError(f"{self.path}: LiteRT {self.version} cannot open it ({first_line(error)})") from error
        self.outputs = self.session.get_output_details()
        names = self.names or tuple(str(detail["name"]) for detail in self.details)
        self.inputs = tuple(self._slot(name, detail) for name, detail in zip(names, self.details, strict=True))

    def prepare(self, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
        prepared = []
        for array, detail in zip(arrays, self.details, strict=True):
            stored = np.ascontiguousarray(array.transpose(self._order(array.ndim)))
            prepared.append(_encode(stored, detail))
        try:
            if any(
                tuple(array.shape) != tuple(detail["shape"])
                for array, detail in zip(prepared, self.session.get_input_details(), strict=True)
            ):
                for array, detail in zip(prepared, self.details, strict=True):
                    self.session.resize_tensor_input(detail["index"], array.shape)
                allocate(self.session)
        except (RuntimeError, ValueError) as error:
            shapes = ", ".join(str(array.shape) for array in prepared)
            raise ExportError(f"{self.path}: cannot be resized to {shapes} ({first_line(error)})") from error
        return prepared

    def run(self, prepared: list[np.ndarray]) -> list[np.ndarray]:
        for array, detail in zip(prepared, self.details, strict=True):
            self.session.set_tensor(detail["index"], array)
        try:
            self.session.invoke()
        except RuntimeError as error:
            raise ExportError(f"{self.path}: LiteRT {self.version} cannot run it ({first_line(error)})") from error
        return [self.session.get_tensor(detail["index"]) for detail in self.outputs]

    def finish(self, outputs: list[np.ndarray]) -> list[np.ndarray]:
        plain = len(outputs) - len(self.orders) - self.exposed
        ends = []
        for values, detail in zip(outputs[:plain], self.outputs, strict=False):
            decoded = np.moveaxis(_decode(values, detail), batch_axis(detail["shape_signature"]), 0)
            ends.append(np.ascontiguousarray(decoded.transpose(np.argsort(self._order(decoded.ndim)))))
        looked_at = outputs[plain : plain + len(self.orders)]
        codes = [_plain_codes(values, order) for values, order in zip(looked_at, self.orders, strict=True)]
        return [*ends, *codes, *outputs[plain + len(self.orders) :]]

    def _order(self, rank: int) -> Order:
        return CHANNELS_LAST[rank] if self.channels_last and rank in CHANNELS_LAST else identity(rank)

    def _slot(self, name: str, detail: Any) -> InputSlot:
        sizes = [int(size) for size in detail["shape_signature"] if len(detail["shape_signature"])]
        sizes = sizes or [int(size) for size in detail["shape"]]
        shape = [None if size < 0 else size for size in sizes]
        if None not in shape and shape[:1] == [1] and not self.fixed:
            shape[0] = None  # a file for one input, which a runtime resizes
        order = self._order(len(shape))
        dtype = np.dtype(np.float32 if _is_quantized(detail) else detail["dtype"])
        return InputSlot(name, tuple(shape[order.index(axis)] for axis in range(len(shape))), dtype)


def _is_quantized(detail: Any) -> bool:
    return bool(detail["quantization"][0]) and detail["dtype"] in (np.int8, np.uint8)


def _encode(values: np.ndarray, detail: Any) -> np.ndarray:
    """Floats as a file takes them whose inputs are codes."""
    if not _is_quantized(detail):
        return values
    scale, zero_point = detail["quantization"]
    limits = np.iinfo(detail["dtype"])
    codes = np.rint(values / np.float32(scale)) + zero_point
    return codes.clip(limits.min, limits.max).astype(detail["dtype"])


def _decode(values: np.ndarray, detail: Any) -> np.ndarray:
    if not _is_quantized(detail):
        return values
    scale, zero_point = detail["quantization"]
    return (values.astype(np.float32) - np.float32(zero_point)) * np.float32(scale)


def _plain_codes(values: np.ndarray, order: Order) -> np.ndarray:
    """Give int8 codes as the reference has them: uint8, PyTorch's order."""
    shifted = (values.astype(np.int16) - UINT8_TO_INT8).astype(np.uint8)
    return np.ascontiguousarray(shifted.transpose(np.argsort(order)))
