"""Every reader of files refuses a named pipe at once: opening one would wait for somebody to write into it."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

import codeq
from codeq.data.array_file import read_array_file
from codeq.data.plain_folder import list_files
from codeq.errors import CodeqError
from codeq.figures.comparison import find_logs
from codeq.run_log import read_run
from export.inspect import inspect_file

READERS: dict[str, Callable[[Path], object]] = {
    ".pt": codeq.load,
    ".onnx": inspect_file,
    ".tflite": inspect_file,
    ".npy": read_array_file,
    ".npz": read_array_file,
    ".jsonl": read_run,
}


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    for suffix, read in READERS.items():
        path = tmp_path / f"a{suffix}"
        os.mkfifo(path)
        with pytest.raises(CodeqError, match=rf"a{suffix} is no ordinary file, expected "):
            read(path)
    with pytest.raises(CodeqError, match=r"holds no images .* and no \.npy files; found nothing"):
        list_files(tmp_path)
    with pytest.raises(CodeqError, match=r"holds no \*\.jsonl"):
        find_logs([tmp_path])
