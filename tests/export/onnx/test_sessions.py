"""A file is opened with its own options and can set no others."""

from pathlib import Path
from typing import Any

import onnx
import pytest

from export.errors import ExportError
from export.metadata import KEY, metadata_props
from export.onnx.sessions import (
    EXACT_SESSION_OPTIONS,
    INTEGER_SESSION_OPTIONS,
    file_options,
    load_model,
    load_session,
    read_metadata,
    session_options,
)

pytestmark = pytest.mark.quick


def described(options: dict[str, str] | None) -> onnx.ModelProto:
    model = onnx.ModelProto()
    values: dict[str, Any] = {"activations": None, "activations_except": (), "storage": "auto", "target": "portable"}
    props = metadata_props((), checkpoint_sha256=None, preprocessing={}, versions={}, session_options=options, **values)
    onnx.helper.set_model_props(model, props)
    return model


@pytest.mark.parametrize(
    ("activations", "options"), [("float32", EXACT_SESSION_OPTIONS), ("int8", INTEGER_SESSION_OPTIONS)]
)
def test_a_file_carries_its_options(activations: str, options: dict[str, str], small_file: Any) -> None:
    path, *_ = small_file(activations=activations)
    assert file_options(read_metadata(load_model(path), path)) == options
    (entry,) = options.items()
    assert load_session(path).get_session_options().get_session_config_entry(entry[0]) == entry[1]


def test_other_options_are_refused() -> None:
    with pytest.raises(ExportError, match=r"^net: asks for the session options evil\.library, which"):
        read_metadata(described({"evil.library": "x.so", **EXACT_SESSION_OPTIONS}), "net")
    with pytest.raises(ExportError, match="no session_options"):
        read_metadata(described(None), "net")
    with pytest.raises(ExportError, match=f"^net: has no '{KEY}' metadata"):
        read_metadata(onnx.ModelProto(), "net")


def test_what_is_no_file_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "text.onnx").write_text("not a model")
    (tmp_path / "empty.onnx").write_bytes(b"")
    for name, text in (
        ("text.onnx", "not an ONNX"),
        ("empty.onnx", "not an ONNX"),
        ("none", "no such"),
        ("", "folder"),
    ):
        with pytest.raises(ExportError, match=text) as raised:
            load_model(tmp_path / name)
        assert "\n" not in str(raised.value)


def test_threads_are_onnxruntimes_unless_asked() -> None:
    assert session_options("basic").intra_op_num_threads == 0
    assert session_options("basic", 2).intra_op_num_threads == 2
