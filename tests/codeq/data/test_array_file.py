"""NumPy's files are told apart by content, and none of them runs code or ends in more than one line."""

import io
import pickle
import re
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from codeq.data.array_file import read_array_file
from codeq.errors import CalibrationError

pytestmark = pytest.mark.quick

X = np.arange(6, dtype=np.float32).reshape(2, 3)


def npy(array: Any) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


def npz(**arrays: Any) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


def zipped(content: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("notes.txt", content)
    return buffer.getvalue()


class Loud:
    """What a pickle may do when it is opened."""

    def __reduce__(self) -> Any:
        return (pytest.fail, ("a file ran code",))


@pytest.mark.parametrize("name", ["inputs.npy", "inputs.npz", "inputs"])
def test_the_content_decides(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(npy(X))
    ((key, array),) = read_array_file(path).items()
    assert key == ""
    assert np.array_equal(array, X)
    path.write_bytes(npz(b=X, a=X + 1))
    arrays = read_array_file(path)
    assert list(arrays) == ["b", "a"]
    assert np.array_equal(arrays["a"], X + 1)


REFUSED: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "is not an .npy or .npz file of plain arrays (numpy.save, numpy.savez)"),
    "text": (b"hello", "is not an .npy or .npz file"),
    "a pickle": (pickle.dumps(Loud()), "is not an .npy or .npz file"),
    "objects": (npy(np.array([Loud()], object)), "it holds pickled Python objects, which run code when they are open"),
    "objects in an .npz": (npz(x=np.array([Loud()], object)), "it holds pickled Python objects"),
    "half an .npy": (npy(X)[:-5], "damaged?"),
    "half a header": (npy(X)[:40], "damaged?"),
    "a wrong header": (npy(X)[:10] + b"\x00" + npy(X)[11:], "damaged?"),
    "a huge shape": (npy(X).replace(b"(2, 3)", b"(9**9)"), "damaged?"),
    "half an .npz": (npz(x=X)[:100], "is not an .npy or .npz file"),
    "a damaged .npz": (npz(x=X).replace(X.tobytes(), X[::-1].tobytes()), "damaged? (Bad CRC-32"),
    "another zip": (
        zipped(b"hello"),
        "is not an .npy or .npz file of plain arrays (numpy.save, numpy.savez): it holds",
    ),
}


@pytest.mark.parametrize(("content", "message"), REFUSED.values(), ids=REFUSED)
def test_what_is_refused(content: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "inputs.npy"
    path.write_bytes(content)
    with pytest.raises(CalibrationError, match=f"^{re.escape(str(path))}: .*{re.escape(message)}") as caught:
        read_array_file(path)
    assert "\n" not in str(caught.value)


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    for path, message in ((tmp_path / "none.npy", ": cannot be read "), (tmp_path, " is a folder, expected an .npy")):
        with pytest.raises(CalibrationError, match=f"^{path}{message}"):
            read_array_file(path)
