"""Versions come from package metadata: no library is imported for them."""

import subprocess
import sys
from importlib.metadata import version

import pytest

from codeq.toolkit import versions
from codeq.toolkit.versions import describe_versions
from codeq.version import __version__


def test_versions_of_what_is_installed() -> None:
    assert describe_versions() == f"codeq {__version__}, torch {version('torch')}, onnxruntime {version('onnxruntime')}"


def test_what_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(versions, "LIBRARIES", ("no-such-library",))
    assert describe_versions() == f"codeq {__version__}, no no-such-library"


def test_nothing_is_imported() -> None:
    program = (
        "import sys; from codeq.toolkit.versions import describe_versions; describe_versions(); "
        "print({'torch', 'onnxruntime'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
