"""Files that would crash LiteRT, or lead it astray, end in one line before anything runs them."""

import random
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from export.backend import get_backend
from export.errors import ExportError
from export.tflite.file.flatbuffer import align_buffers, pack_model, read
from export.tflite.file.verify_file import verify_file
from runtime_tests.fuzz.samples import write_samples
from runtime_tests.fuzz.tflite_files import mutate


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    _, files = write_samples(get_backend("tflite"), tmp_path_factory.mktemp("samples"))
    return {file.stem: file.read_bytes() for file in files}


def operator(model: Any) -> Any:
    return model.subgraphs[0].operators[0]


def quantized(model: Any) -> Any:
    return next(tensor for tensor in model.subgraphs[0].tensors if tensor.quantization is not None)


def per_channel(model: Any) -> Any:
    grids = ((tensor, tensor.quantization) for tensor in model.subgraphs[0].tensors)
    return next(tensor for tensor, grid in grids if grid is not None and len(grid.scale) > 1)


def reads_itself(model: Any) -> None:
    last = model.subgraphs[0].operators[-1]
    operator(model).inputs = [*map(int, last.outputs), *map(int, operator(model).inputs[1:])]


def change_quantization(**values: Any) -> Callable[[Any], None]:
    def change(model: Any) -> None:
        for name, value in values.items():
            setattr(quantized(model).quantization, name, value)

    return change


def change_tensor(**values: Any) -> Callable[[Any], None]:
    def change(model: Any) -> None:
        for name, value in values.items():
            setattr(quantized(model), name, value)

    return change


def lose_quantization(model: Any) -> None:
    for tensor in model.subgraphs[0].tensors:
        tensor.quantization = None


CHANGES: dict[str, tuple[Callable[[Any], Any], str]] = {
    "an operand that is not there": (lambda m: setattr(operator(m), "inputs", [10**6]), "is number 1000000, of"),
    "no operands": (lambda m: setattr(operator(m), "inputs", []), "takes operands"),
    "a kind that is not there": (lambda m: setattr(operator(m), "opcodeIndex", 99), "is number 99, of"),
    "a cycle": (reads_itself, "before anything computes it"),
    "a buffer that is not there": (change_tensor(buffer=999), "is number 999, of"),
    "another type": (change_tensor(type=77), "is of the unknown type 77"),
    "a size below nothing": (change_tensor(shape=[-3, 2]), "shape"),
    "a shape beyond all data": (change_tensor(shape=[2**15, 2**15]), "has shape [32768, 32768]"),
    "a name that clears the screen": (change_tensor(name="\x1b[2Jok"), "not printable (\\x1b[2Jok)"),
    "a name without end": (change_tensor(name="n" * 5000), "longer than 1,000 characters"),
    "a scale of nothing known": (change_quantization(scale=np.float32([float("nan")]), zeroPoint=[0]), "scale"),
    "scales of another axis": (lambda m: setattr(per_channel(m).quantization, "quantizedDimension", 9), "along axis 9"),
    "no grids": (lose_quantization, "holds codes and has no quantization"),
    "no subgraph": (lambda m: setattr(m, "subgraphs", []), "lacks subgraphs"),
    "an output that nothing computes": (
        lambda m: m.subgraphs[0].operators.pop(),
        "is an output that nothing computes",
    ),
    "another schema": (lambda m: setattr(m, "version", 7), "version 7 of the schema, expected 3"),
}


@pytest.mark.parametrize(("change", "message"), CHANGES.values(), ids=CHANGES)
def test_what_a_file_says_is_checked(
    change: Callable[[Any], Any], message: str, samples: dict[str, bytes], tmp_path: Path
) -> None:
    content = samples["int8-litert"]
    model = read(content)
    model.buffers = align_buffers(model)
    change(model)
    with pytest.raises(ExportError) as error:
        verify_file(tmp_path / "net.tflite", pack_model(model, len(content)))
    text = str(error.value)
    assert text.startswith(f"{tmp_path}/net.tflite: is damaged")
    assert message in text
    assert text.isprintable()


def test_the_bytes_are_checked(samples: dict[str, bytes], tmp_path: Path) -> None:
    content = samples["float32-litert"]
    for damaged in (
        b"",
        content[:7],
        content[: len(content) // 2],
        content[:4] + b"XXXX" + content[8:],
        struct.pack("<I", 2**31) + content[4:],
        struct.pack("<I", 5) + content[4:],
        bytes(len(content)),
    ):
        with pytest.raises(ExportError, match=r"net\.tflite: is damaged"):
            verify_file(tmp_path / "net.tflite", damaged)


def data_behind(content: bytes, *, moved: int = 0, in_two_places: bool = False) -> bytes:
    """Write a file as ai-edge-quantizer does: the largest buffer's data behind the tables, with its place in them."""
    model = read(content)
    largest = max(model.buffers, key=lambda buffer: 0 if buffer.data is None else len(buffer.data))
    data = bytes(largest.data)
    largest.data = largest.data[:4] if in_two_places else None
    largest.offset, largest.size = 2, len(data)
    tables = len(pack_model(model, len(content)))
    start = -(-tables // 16) * 16
    largest.offset = start + moved
    return pack_model(model, len(content)).ljust(start, b"\0") + data


def test_data_behind_the_tables_is_read(samples: dict[str, bytes], tmp_path: Path) -> None:
    content = samples["float32-litert"]
    found, expected = verify_file(tmp_path / "net.tflite", data_behind(content)), read(content)
    for one, other in zip(found.buffers, expected.buffers, strict=True):
        assert (one.offset, one.size) == (0, 0)
        assert bytes(one.data if one.data is not None else b"") == bytes(other.data if other.data is not None else b"")
    for options, message in (({"moved": 1}, "keeps bytes"), ({"in_two_places": True}, "in two places")):
        with pytest.raises(ExportError, match=message):
            verify_file(tmp_path / "net.tflite", data_behind(content, **options))  # type: ignore[arg-type]


def test_our_own_files_pass(samples: dict[str, bytes], tmp_path: Path) -> None:
    for content in samples.values():
        assert verify_file(tmp_path / "net.tflite", content).subgraphs


def test_mutants_pass_or_are_one_line(samples: dict[str, bytes], tmp_path: Path) -> None:
    said = []
    for number in range(60):
        for content in samples.values():
            mutant, _ = mutate(content, random.Random(number))
            try:
                verify_file(tmp_path / "net.tflite", mutant)
            except ExportError as error:
                said.append(str(error))
    assert all(text.isprintable() for text in said)
    assert 30 < len(said) < 120
