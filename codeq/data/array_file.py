"""Read inputs from NumPy's files, .npy and .npz, told apart by their content; pickles, which run code, stay closed."""

import zipfile
from pathlib import Path

import numpy as np

from codeq.errors import CalibrationError, first_line
from codeq.toolkit.files import check_ordinary

SUFFIX = ".npy"
MAGIC = b"\x93NUMPY"
EXPECTED = "an .npy or .npz file of plain arrays (numpy.save, numpy.savez)"


def read_array_file(path: Path) -> dict[str, np.ndarray]:
    """Read the arrays of a file by name; the one of an .npy file has the name "".

    Raises:
        CalibrationError: Missing, another format, damaged, or Python objects in it.
    """
    check_ordinary(path, EXPECTED, CalibrationError)
    try:
        with path.open("rb") as file:
            start = file.read(len(MAGIC))
            file.seek(0)
            if start != MAGIC and not zipfile.is_zipfile(file):
                raise CalibrationError(f"{path}: is not {EXPECTED}")
            file.seek(0)
            content = np.load(file, allow_pickle=False)
            if isinstance(content, np.ndarray):
                return {"": content}
            arrays = {name: content[name] for name in content.files}
    except CalibrationError:
        raise
    except OSError as error:
        raise CalibrationError(f"{path}: cannot be read ({error.strerror or first_line(error)})") from error
    except Exception as error:  # what zipfile, zlib and NumPy raise on damaged files shares no base class
        raise CalibrationError(f"{path}: is not {EXPECTED}: {_reason(error)}") from error
    foreign = [name for name, array in arrays.items() if not isinstance(array, np.ndarray)]
    if foreign:
        raise CalibrationError(f"{path}: is not {EXPECTED}: it holds {foreign[0]!r}")
    return arrays


def _reason(error: Exception) -> str:
    if "allow_pickle" in str(error):  # in NumPy's words, which ask to set it
        return "it holds pickled Python objects, which run code when they are opened"
    return f"damaged? ({first_line(error)})"
