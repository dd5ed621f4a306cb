"""A damaged file is one line that names it; one that is whole is read."""

from pathlib import Path

import pytest

pytest.importorskip("ai_edge_litert", reason="LiteRT is an extra: pip install '.[tflite]'")

from export.errors import ExportError
from export.tflite.file.verify_file import verify_file
from tests.export.tflite.file.small import changed, small_file, tensor


def test_a_whole_file_is_read() -> None:
    model = verify_file(Path("net.tflite"), small_file())
    assert len(model.subgraphs[0].operators) == 4


def test_the_message_names_the_file() -> None:
    data = changed(lambda model: setattr(tensor(model, "bias"), "shape", [5]))
    with pytest.raises(ExportError, match=r"^net\.tflite: is damaged: tensor 'bias' of .*; export it again$"):
        verify_file(Path("net.tflite"), data)
    with pytest.raises(ExportError, match=r"^net\.tflite: is damaged: .*; export it again$"):
        verify_file(Path("net.tflite"), small_file()[:-9])
