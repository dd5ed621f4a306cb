"""Files of tensors from anywhere: what is read, what is refused, and by which name."""

import resource
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from codeq.errors import CheckpointError
from codeq.safe_load import check_dense, check_shape, check_values, safe_load

SOURCE = Path("net.pt")


def test_a_dictionary_of_plain_values_and_tensors_is_read(tmp_path: Path) -> None:
    torch.save({"w": torch.ones(2), "epochs": 3}, tmp_path / "net.pt")
    loaded = safe_load(tmp_path / "net.pt", expected="weights")
    assert loaded["w"].tolist() == [1, 1]
    assert loaded["epochs"] == 3


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (lambda path: None, "no such file$"),
        (lambda path: path.mkdir(), "is a folder, expected weights$"),
        (lambda path: path.write_bytes(b""), r"not a checkpoint, or truncated \(0 bytes\); expected weights$"),
        (lambda path: path.write_text("hello, this is text"), r"not a checkpoint, .*expected weights$"),
        (lambda path: path.write_bytes(b"junk"), r"not a checkpoint, or truncated \(4 bytes\); expected weights$"),
        (lambda path: torch.save([1], path), "holds a list, expected weights$"),
        (lambda path: torch.save({"path": SOURCE}, path), r"objects \(pathlib.PosixPath\) that could run code"),
    ],
    ids=["nothing", "folder", "empty", "text", "junk", "list", "objects"],
)
def test_other_files_are_refused(write: Callable[[Path], Any], message: str, tmp_path: Path) -> None:
    path = tmp_path / "net.pt"
    write(path)
    with pytest.raises(CheckpointError, match=message) as error:
        safe_load(path, expected="weights")
    assert str(error.value).startswith(str(path))
    assert "\n" not in str(error.value)


class Call:
    """Pickles as a call of something."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return self.call


def compress_records(path: Path) -> None:
    """Write 200 MB of zeros as 200 kB."""
    torch.save({"w": torch.ones(2)}, path)
    with zipfile.ZipFile(path) as archive:
        records = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in records.items():
            archive.writestr(name, content if "data/" not in name else bytes(2 * 10**8))


def declare(path: Path, count: int) -> None:
    """Write a file of torch before 1.6 that declares `count` values."""
    torch.save({"w": torch.ones(70_000)}, path, _use_new_zipfile_serialization=False)
    path.write_bytes(path.read_bytes().replace(struct.pack("<I", 70_000), struct.pack("<I", count)))


HOSTILE: dict[str, tuple[Callable[[Path], Any], str]] = {
    "8 GB of bytes": (
        lambda path: torch.save({"w": Call(bytearray, 2**33)}, path),
        r"objects \(__builtin__.bytearray\) that could run code",
    ),
    "a tensor of any size": (lambda path: torch.save({"w": Call(torch.Tensor, 2**31)}, path), r"\(torch.Tensor\)"),
    "the same in the old format": (
        lambda path: torch.save({"w": Call(bytearray, 2**33)}, path, _use_new_zipfile_serialization=False),
        r"\(__builtin__.bytearray\)",
    ),
    "compressed records": (compress_records, "holds compressed records, which torch.save never writes"),
    "4 GB declared": (lambda path: declare(path, 2**31 - 1), r"declares 2,147,483,647 values, and has 28\d,\d+ bytes"),
}


@pytest.mark.parametrize(("write", "message"), HOSTILE.values(), ids=HOSTILE)
def test_what_would_fill_memory_is_refused_before_it_does(
    write: Callable[[Path], Any], message: str, tmp_path: Path
) -> None:
    path = tmp_path / "net.pt"
    write(path)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(CheckpointError, match=message) as error:
        safe_load(path, expected="weights")
    assert "\n" not in str(error.value)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # kB


def test_files_of_old_torch_are_read(tmp_path: Path) -> None:
    torch.save({"w": torch.ones(70_000), "epoch": 3}, tmp_path / "net.pt", _use_new_zipfile_serialization=False)
    assert safe_load(tmp_path / "net.pt", expected="weights")["w"].sum() == 70_000


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (3, "net.pt: w is a int, expected a tensor"),
        (torch.ones(2, device="meta"), "net.pt: w is on meta, and has no values here"),
        (torch.eye(2).to_sparse(), "net.pt: w has layout torch.sparse_coo, expected torch.strided"),
    ],
    ids=["number", "meta", "sparse"],
)
def test_what_is_no_ordinary_tensor_is_named(value: Any, message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        check_dense(SOURCE, "w", value)
    check_dense(SOURCE, "w", torch.ones(2))


def test_another_shape_is_named() -> None:
    check_shape(SOURCE, "w", torch.ones(2, 3), torch.zeros(2, 3))
    with pytest.raises(CheckpointError, match=r"net.pt: w has shape \(3,\), expected \(2,\) \(why\)$"):
        check_shape(SOURCE, "w", torch.ones(3), torch.zeros(2), hint=" (why)")


@pytest.mark.parametrize(
    ("name", "tensor", "message"),
    [
        ("w", torch.tensor([1.0, float("nan")]), "w has NaN or infinite entries; the training run diverged"),
        ("w", torch.tensor(float("-inf")), "w has NaN or infinite entries"),
        ("bn.running_var", torch.tensor([-1.0]), "bn.running_var has negative entries, which no variance has"),
        ("w", torch.tensor([-1.0]), ""),
        ("count", torch.tensor(7), ""),
    ],
    ids=["nan", "infinite", "variance", "negative_weight", "integer"],
)
def test_values_that_no_training_leaves_are_named(name: str, tensor: Tensor, message: str) -> None:
    if not message:
        check_values(SOURCE, name, tensor)
        return
    with pytest.raises(CheckpointError, match=message):
        check_values(SOURCE, name, tensor)
