"""Files of tensors from anywhere: what is read, what is refused, and by which name."""

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
        (lambda path: torch.save({"path": SOURCE}, path), "holds Python objects that could run code, and was not op"),
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
