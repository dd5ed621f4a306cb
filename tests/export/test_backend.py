"""Backends are looked up by name and by what a file is."""

from pathlib import Path
from typing import Any

import pytest

from export.backend import BACKENDS, backend_of, file_bytes, get_backend
from export.errors import ExportError

pytestmark = pytest.mark.quick


class Plain:
    """The part of a backend that a look-up needs."""

    name = "plain"

    def recognizes(self, path: Path) -> bool:
        return path.suffix == ".plain"

    def files(self, path: Path) -> list[Path]:
        return [path, path.with_suffix(".data")]


@pytest.fixture
def plain(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setitem(BACKENDS, "plain", Plain())
    return BACKENDS["plain"]


@pytest.mark.parametrize("name", list(BACKENDS))
def test_an_entry_leads_to_the_backend_of_its_name(name: str) -> None:
    backend = get_backend(name)
    assert backend.name == name
    assert backend.suffix.startswith(".")


def test_an_entry_may_be_the_backend_itself(plain: Any) -> None:
    assert get_backend("plain") is plain


def test_an_unknown_name_lists_those_there_are() -> None:
    with pytest.raises(ExportError, match=r"^backend 'coreml', expected one of onnx, tflite$"):
        get_backend("coreml")


def test_a_file_is_known_by_its_name(plain: Any) -> None:
    assert backend_of(Path("net.plain")) is plain
    assert backend_of(Path("net.tflite")).name == "tflite"
    assert backend_of(Path("net.onnx")).name == "onnx"


def test_a_file_is_known_by_its_first_bytes(tmp_path: Path) -> None:
    path = tmp_path / "net.bin"
    path.write_bytes(b"\x1c\x00\x00\x00TFL3" + bytes(16))
    assert backend_of(path).name == "tflite"


def test_a_file_that_none_knows_is_the_first_one_s_to_refuse(tmp_path: Path) -> None:
    path = tmp_path / "net.bin"
    path.write_bytes(b"text")
    assert backend_of(path).name == next(iter(BACKENDS))


def test_what_lies_beside_a_file_counts(plain: Any, tmp_path: Path) -> None:
    path = tmp_path / "net.plain"
    path.write_bytes(bytes(3))
    path.with_suffix(".data").write_bytes(bytes(40))
    assert file_bytes(path) == 43
