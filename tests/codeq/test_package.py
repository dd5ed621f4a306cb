"""`import codeq` is light, and still shows all that it offers."""

import subprocess
import sys
from pathlib import Path

import pytest

import codeq


def test_every_public_name_is_there_and_shown() -> None:
    for name in codeq.__all__:
        assert getattr(codeq, name) is not None
    assert set(codeq.__all__) <= set(dir(codeq))
    assert set(codeq._HOME) == set(codeq.__all__)


def test_no_public_name_is_a_module_s() -> None:
    """An import of the module, by whomever, would put it in the place of a function."""
    modules = {path.stem for path in Path(codeq.__file__).parent.iterdir()}
    assert not modules & set(codeq.__all__)


@pytest.mark.slow("a process of its own")
def test_submodules_are_attributes() -> None:
    program = "import codeq; print(codeq.cost.FLOAT_BITS, codeq.attach.__name__)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "32 attach\n"
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        codeq.nothing  # noqa: B018


def test_importing_it_needs_no_pytorch() -> None:
    program = (
        "import sys; sys.modules['torch'] = None; "
        "import codeq, codeq.toolkit.table, codeq.toolkit.cli; print(codeq.__version__)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
