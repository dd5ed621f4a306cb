"""A seal covers every byte of a file: of the zip's tables too, and of itself."""

import zipfile
from pathlib import Path

import pytest
import torch

from codeq.seal import SEAL_BYTES, is_sealed, seal

pytestmark = pytest.mark.quick


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "net.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("first", bytes(40))
        archive.writestr("second", b"text")
    return path


def seal_file(path: Path) -> None:
    with path.open("r+b") as file:
        seal(file)


def test_a_sealed_file_is_still_a_zip(path: Path) -> None:
    before = path.stat().st_size
    assert is_sealed(path) is None
    seal_file(path)
    assert is_sealed(path) is True
    assert path.stat().st_size == before + SEAL_BYTES
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        assert archive.read("second") == b"text"


def test_torch_reads_a_sealed_file(tmp_path: Path) -> None:
    path = tmp_path / "net.pt"
    torch.save({"weight": torch.arange(5.0)}, path)
    seal_file(path)
    assert torch.load(path, weights_only=True)["weight"].tolist() == [0, 1, 2, 3, 4]
    assert is_sealed(path) is True


def test_no_byte_can_change(path: Path) -> None:
    seal_file(path)
    content = path.read_bytes()
    for place in range(len(content)):
        changed = bytearray(content)
        changed[place] ^= 1
        path.write_bytes(changed)
        assert not is_sealed(path), place


def test_nothing_but_a_zip_without_a_comment_is_sealed(path: Path, tmp_path: Path) -> None:
    seal_file(path)
    content = path.read_bytes()
    for number, other in enumerate((content, b"", b"no zip at all, but long enough to be one")):
        target = tmp_path / str(number)
        target.write_bytes(other)
        with pytest.raises(ValueError, match="no zip"):
            seal_file(target)
        assert target.read_bytes() == other
