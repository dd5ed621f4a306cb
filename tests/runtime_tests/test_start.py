"""Commands answer `--help` and a typo before anything heavy is loaded."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests import commands

COMMANDS = [name.removeprefix("runtime_tests.") for name in commands.COMMANDS if name.startswith("runtime_tests.")]
HEAVY = ("torch", "numpy", "onnx", "onnxruntime", "onnxscript", "ai_edge_litert", "openvino")
SCRIPT = """
import sys
from importlib import import_module
for name in {heavy!r}:
    sys.modules[name] = None  # an import of it fails
for name in {commands!r}:
    module = import_module(f"runtime_tests.{{name}}")
    print(module.build_parser().format_help())
    try:
        module.main(["--no-such-flag"])
    except SystemExit as error:
        assert error.code == 2, (name, error.code)
"""


@pytest.fixture(scope="module")
def started() -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2]), "COLUMNS": "80"}
    script = SCRIPT.format(heavy=HEAVY, commands=COMMANDS)
    return subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, env=environment, timeout=60, check=False
    )


def test_help_and_a_typo_import_nothing_heavy(started: subprocess.CompletedProcess[str]) -> None:
    assert started.returncode == 0, started.stderr
    for name in COMMANDS:
        assert f"example:\n  python -m runtime_tests.{name.removesuffix('.__main__')} " in started.stdout
    assert len(started.stderr.splitlines()) == len(COMMANDS)


def test_the_commands_are_found() -> None:
    assert {"parity", "bench.__main__", "zoo", "training_step"} <= set(COMMANDS)
