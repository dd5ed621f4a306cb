"""The `codeq` command: its subcommands, how fast they answer, and folders whose files have names of ours."""

import os
import resource
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

import codeq_cli
from codeq.toolkit.interrupt import PACKAGES
from codeq.toolkit.startup import ROOT
from tests.commands import RUN_AS

COMMANDS = codeq_cli.all_commands()
CPU_SECONDS = 0.5
"""What a command may take to answer, Python's own start included: about 0.1 s here, 2 to 4 s with torch."""
LIBRARIES = ("torch", "numpy", "onnx", "onnxruntime", "rich", "matplotlib")
NETWORK = """
from torch import nn


def net(width=4):
    return nn.Sequential(nn.Flatten(), nn.Linear(64, width), nn.ReLU(), nn.Linear(width, 10))
"""
HIDING = {
    "a folder": {"models/__init__.py": ""},
    "a script": {"export.py": ""},
    "modules": {"models.py": "", "runtime_tests.py": ""},
}


def run_python(*words: str, cwd: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"} | variables
    command = [sys.executable, *words]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, env=environment, timeout=300, check=False)


def test_every_command_has_a_module() -> None:
    for module, text in (codeq_cli.TRAINING | codeq_cli.FILES).values():  # type: ignore[operator]
        assert find_spec(module) is not None, module
        assert text[0].islower()
    assert codeq_cli.PACKAGES == PACKAGES


def test_help_lists_the_commands(capsys: pytest.CaptureFixture[str]) -> None:
    assert codeq_cli.main(["--help"]) == 0
    text = capsys.readouterr().out
    assert all(f"\n  {name} " in text for name in COMMANDS)
    assert max(map(len, text.splitlines())) <= 80
    assert codeq_cli.main(["export", "--help"]) == 0
    text = capsys.readouterr().out
    assert text.startswith("usage: codeq export ")
    assert "export tflite" in text
    assert "inspect" not in text


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "codeq: error: expected a command (train, compress, advise, adopt, pareto, export, inspect"),
        (["tarin"], "found 'tarin'; did you mean train? (see --help)"),
        (["export"], "codeq export: error: expected a command (onnx, tflite), found none (see --help)"),
        (["export", "tfilte", "a.pt"], "found 'tfilte'; did you mean tflite? (see --help)"),
        (["Train"], "found 'Train'; did you mean train? (see --help)"),
        (["onnx", "a.pt"], "found 'onnx'; did you mean export onnx? (see --help)"),
        (["help"], "found 'help'; did you mean --help? (see --help)"),
        (["--verson"], "codeq: error: unrecognized arguments: --verson; did you mean --version? (see --help)"),
        (["--hlep", "train"], "unrecognized arguments: --hlep; did you mean --help? (see --help)"),
        (["export", "--verion"], "codeq export: error: unrecognized arguments: --verion; did you mean --version?"),
        (["--jsn=a.json", "bench"], "unrecognized arguments: --jsn; did you mean --json behind a command? (see"),
        (["-z"], "codeq: error: unrecognized arguments: -z (see --help)"),
    ],
)
def test_a_command_that_is_none(words: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert codeq_cli.main(words) == 2
    complaint = capsys.readouterr().err
    assert message in complaint
    assert complaint.count("\n") == 1


@pytest.mark.parametrize("name", COMMANDS)
def test_help_of_a_command_fits_80_columns_and_bears_its_name(
    name: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit) as caught:
        codeq_cli.main([*name.split(), "--help"])
    assert caught.value.code == 0
    text = capsys.readouterr().out
    assert text.startswith(f"usage: codeq {name} [-h]")
    assert f"  codeq {name} " in text.partition("example:")[2]
    assert max(map(len, text.splitlines())) <= 80


@pytest.mark.parametrize("module", RUN_AS)
def test_a_command_answers_before_any_library_is_loaded(module: str, tmp_path: Path) -> None:
    # Libraries that are not there cannot be loaded: the command would end in a traceback.
    blocked = f"import sys; sys.modules.update(dict.fromkeys({LIBRARIES})); "
    (tmp_path / "sitecustomize.py").write_text(blocked)
    path = os.pathsep.join([str(tmp_path), str(ROOT)])
    for words, status in ((["--help"], 0), (["--version"], 0), (["--no-such-flag"], 2)):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        done = run_python("-m", module, *words, cwd=tmp_path, PYTHONPATH=path)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        assert done.returncode == status, done.stderr
        assert "Traceback" not in done.stderr
        taken = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        assert taken < CPU_SECONDS, words


def write_files(folder: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text)


@pytest.mark.slow("commands in processes of their own")
@pytest.mark.full
def test_the_command_works_beside_files_with_names_of_ours(tmp_path: Path) -> None:
    mine = "raise RuntimeError('mine')\n"
    write_files(tmp_path, {"models/net.py": NETWORK, "export.py": mine, "runtime_tests/__init__.py": mine})
    train = ["train", "--model", "models.net:net", "--bits", "32", "--epochs", "1", "--batch-size", "256", "-q"]
    done = run_python("-m", "codeq_cli", *train, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    # As pip installs it: a script in another folder, which alone is on the path.
    scripts = tmp_path / "bin"
    scripts.mkdir()
    (scripts / "codeq").write_text("from codeq_cli import run\nrun()\n")
    export = ["export", "onnx", "ckpt.pt", "--model", "models.net:net"]
    done = run_python(str(scripts / "codeq"), *export, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "ckpt.onnx").is_file()


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (
            "a folder",
            "models/ hides the package 'models' of this program; run the `codeq` command instead, or rename it",
        ),
        ("a script", "export.py hides the package 'export' of this program; run"),
        (
            "modules",
            "models.py hides the package 'models' of this program, and runtime_tests.py hides the package "
            "'runtime_tests' of this program; run the `codeq` command instead, or rename them",
        ),
    ],
)
def test_python_m_says_which_file_hides_which_package(kind: str, message: str, tmp_path: Path) -> None:
    write_files(tmp_path, HIDING[kind])
    for module in ("codeq.train", "codeq.pareto"):
        done = run_python("-m", module, "--help", cwd=tmp_path)
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr.startswith(f"error: {message}")
        assert done.stderr.count("\n") == 1
