"""This runner opens .tflite files in LiteRT, with XNNPACK. Inputs are resized to the batch; axes and codes are as the
file has them.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from codeq.errors import first_line
from codeq.toolkit.text import printable
from export.errors import ExportError
from export.input_slot import InputSlot
from export.metadata import KEY
from export.program.codes import UINT8_TO_INT8
from export.program.names import codes_name
from export.tflite.child import RemoteSession, child_of
from export.tflite.file.flatbuffer import has_metadata, with_outputs
from export.tflite.file.verify_file import verify_file
from export.tflite.run import XNNPACK, batch_axis
from export.tflite.runtime import installed_version
from export.tflite.session import AnySession, Session, TensorDetail
from export.tflite.stored_file import read_bytes, read_file
from export.tflite.trusted import is_trusted
from export.tflite.weights.layout import CHANNELS_LAST, Order, identity


class LiteRtRunner:
    """See `Runner`. A file that is not ours is fed in its own order of axes; one that this process has not written runs
    in a process of its own.

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
        self.data = data = read_bytes(path)
        self.is_remote = not is_trusted(data)
        self.channels_last, self.fixed, self.orders = False, False, tuple[Order, ...]()
        self.names: tuple[str, ...] = ()
        self.batch: object = None
        if has_metadata(verify_file(path, data), KEY) or look_at:
            file = read_file(path)
            missing = [name for name in look_at if name not in file.codes]
            if missing:
                raise ExportError(f"{path}: has no codes of {missing[0]!r}")
            self.channels_last, self.fixed = file.channels_last_io, file.fixed_batch is not None
            self.batch = file.metadata.options.get("batch")
            self.names = file.inputs
            self.orders = tuple(file.codes[name] for name in look_at)
        self.exposed = len(expose)
        self.content: Path | bytes = path
        if look_at or expose:
            shown = [*map(codes_name, look_at)]
            in_browsers = self.batch is not None  # LiteRT.js needs one batch size, and gives out no int8
            self.content = with_outputs(data, [*shown, *expose], widened=shown if in_browsers else ())

    def open(self) -> None:
        self.session: AnySession
        with self._refusals("open it"):
            if self.is_remote:
                child = child_of(self.path, self.data)
                self.session = RemoteSession(child, self.content, self.kernels, self.threads)
            else:
                self.session = Session(self.content, self.kernels, self.threads)
            names = self.names or tuple(detail.name for detail in self.session.inputs)
            slots = [self._slot(name, detail) for name, detail in zip(names, self.session.inputs, strict=True)]
        self.inputs = tuple(slots)

    def prepare(self, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
        prepared = []
        for array, detail in zip(arrays, self.session.inputs, strict=True):
            stored = np.ascontiguousarray(array.transpose(self._order(array.ndim)))
            prepared.append(_encode(stored, detail))
        shapes = tuple(array.shape for array in prepared)
        if shapes != self.session.shapes:
            with self._refusals(f"be resized to {', '.join(map(str, shapes))}"):
                self.session.resize(shapes)
        return prepared

    def run(self, prepared: list[np.ndarray]) -> list[np.ndarray]:
        with self._refusals("run it"):
            return self.session.run(prepared)

    def finish(self, outputs: list[np.ndarray]) -> list[np.ndarray]:
        plain = len(outputs) - len(self.orders) - self.exposed
        ends = []
        for values, detail in zip(outputs[:plain], self.session.outputs, strict=False):
            if not values.ndim:
                raise ExportError(f"{self.path}: output {detail.name!r} has no dimension, and so no batch")
            decoded = np.moveaxis(_decode(values, detail), batch_axis(np.asarray(detail.signature)), 0)
            ends.append(np.ascontiguousarray(decoded.transpose(np.argsort(self._order(decoded.ndim)))))
        looked_at = outputs[plain : plain + len(self.orders)]
        codes = [_plain_codes(values, order) for values, order in zip(looked_at, self.orders, strict=True)]
        return [*ends, *codes, *outputs[plain + len(self.orders) :]]

    def _order(self, rank: int) -> Order:
        return CHANNELS_LAST[rank] if self.channels_last and rank in CHANNELS_LAST else identity(rank)

    @contextmanager
    def _refusals(self, what: str) -> Iterator[None]:
        """Let what LiteRT says against a file be one line of ours."""
        try:
            yield
        except ExportError:
            raise
        except (RuntimeError, ValueError) as error:
            raise ExportError(
                f"{self.path}: LiteRT {self.version} cannot {what} ({printable(first_line(error))})"
            ) from error

    def _slot(self, name: str, detail: TensorDetail) -> InputSlot:
        sizes = detail.signature or detail.shape
        shape = [None if size < 0 else size for size in sizes]
        if None not in shape and shape[:1] in ([1], [self.batch]) and not self.fixed:
            shape[0] = None  # a file of one batch size, which a runtime resizes
        order = self._order(len(shape))
        dtype = np.dtype(np.float32 if _is_quantized(detail) else detail.dtype)
        return InputSlot(name, tuple(shape[order.index(axis)] for axis in range(len(shape))), dtype)


def _is_quantized(detail: TensorDetail) -> bool:
    return bool(detail.scale) and detail.dtype in ("int8", "uint8")


def _encode(values: np.ndarray, detail: TensorDetail) -> np.ndarray:
    """Floats as a file takes them whose inputs are codes."""
    if not _is_quantized(detail):
        return values
    limits = np.iinfo(detail.dtype)
    codes = np.rint(values / np.float32(detail.scale)) + detail.zero_point
    return codes.clip(limits.min, limits.max).astype(detail.dtype)


def _decode(values: np.ndarray, detail: TensorDetail) -> np.ndarray:
    if not _is_quantized(detail):
        return values
    return (values.astype(np.float32) - np.float32(detail.zero_point)) * np.float32(detail.scale)


def _plain_codes(values: np.ndarray, order: Order) -> np.ndarray:
    """Give int8 codes as the reference has them: uint8, PyTorch's order."""
    shifted = (values.astype(np.int16) - UINT8_TO_INT8).astype(np.uint8)
    return np.ascontiguousarray(shifted.transpose(np.argsort(order)))
