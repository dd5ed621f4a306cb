"""The scripts in examples/ run as a user runs them, and their README says what is there."""

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from inspect import signature
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator

import codeq
from codeq.data import load_dataset
from export import load_session

ROOT = Path(__file__).parent.parent
README = (ROOT / "examples" / "README.md").read_text()
CHANCE = 0.1

Script = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def run_script(tmp_path: Path) -> Script:
    """Run `python ARGUMENTS...` in tmp_path, with this checkout's packages, on the CPU."""

    def run(*arguments: object) -> subprocess.CompletedProcess[str]:
        environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"}
        command = [sys.executable, *map(str, arguments)]
        return subprocess.run(
            command, capture_output=True, text=True, cwd=tmp_path, env=environment, timeout=300, check=False
        )

    return run


def check_output(process: subprocess.CompletedProcess[str], path: Path) -> None:
    assert process.returncode == 0, process.stderr
    match = re.search(r"^test accuracy\D* ([\d.]+)%$", process.stdout, re.MULTILINE)
    assert match, process.stdout
    assert float(match[1]) / 100 > 5 * CHANCE
    assert "weights bit for bit: ok" in process.stdout
    images = load_dataset("digits").test.load(torch.arange(8)).numpy()
    (logits,) = load_session(path).run(None, {"input": images})
    assert logits.shape == (8, 10)


@pytest.mark.full
@pytest.mark.parametrize(
    ("name", "options"),
    [
        pytest.param("plain_pytorch", [], id="plain_pytorch"),
        pytest.param("accelerate_loop", [], id="accelerate_loop", marks=pytest.mark.full),
        pytest.param(
            "accelerate_loop", ["--mixed-precision", "bf16"], id="accelerate_loop_bf16", marks=pytest.mark.full
        ),
    ],
)
def test_a_script_trains_exports_and_saves(
    name: str, options: list[str], run_script: Script, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    process = run_script(ROOT / "examples" / f"{name}.py", "--epochs", 2, "-o", "net.onnx", *options)
    check_output(process, tmp_path / "net.onnx")
    assert process.stderr == ""
    assert sorted(path.name for path in tmp_path.iterdir()) == ["net.onnx", "net.pt"]
    # The factory that the README names for the checkpoint.
    monkeypatch.syspath_prepend(ROOT)
    network = __import__(f"examples.{name}", fromlist=["Network"]).Network
    model = codeq.load(tmp_path / "net.pt", network).model
    images = load_dataset("digits").test.load(torch.arange(8))
    (logits,) = load_session(tmp_path / "net.onnx").run(None, {"input": images.numpy()})
    torch.testing.assert_close(model(images).detach(), torch.from_numpy(logits), rtol=0, atol=1e-3)


@pytest.mark.full
def test_the_checkpoint_is_exported_again_as_the_readme_says(run_script: Script, tmp_path: Path) -> None:
    script = run_script(ROOT / "examples" / "plain_pytorch.py", "--epochs", 1)
    check_output(script, tmp_path / "plain_pytorch.onnx")
    (command,) = re.findall(r"^    python (-m export\.onnx plain_pytorch.*)$", README, re.MULTILINE)
    process = run_script(*command.split())
    assert process.returncode == 0, process.stderr
    assert (tmp_path / "int8.onnx").exists()


@pytest.mark.full
def test_two_processes_freeze_and_finish(run_script: Script, tmp_path: Path) -> None:
    # Without find_unused_parameters DistributedDataParallel aborts in the epoch after codeq.freeze.
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", 2]
    process = run_script(*launch, ROOT / "examples" / "accelerate_loop.py", "--epochs", 2, "-o", "net.onnx")
    check_output(process, tmp_path / "net.onnx")


@pytest.mark.full
def test_transformers_networks_train_and_export_as_the_readme_says(run_script: Script) -> None:
    pattern = r"^    python (-m .* --model examples\.transformers_models:vit.*)$"
    train, export = re.findall(pattern, README, re.MULTILINE)
    process = run_script(*shlex.split(train.replace("--epochs 20", "--epochs 1")), "--batch-size", 256)
    assert process.returncode == 0, process.stderr
    process = run_script(*shlex.split(export), "--check", 8)
    assert process.returncode == 0, process.stderr
    assert process.stderr == ""  # transformers warns of nothing
    assert re.search(r"integer kernels .* QGemm", process.stdout)


@pytest.mark.full
def test_a_text_encoder_is_exported_by_the_names_of_its_inputs(run_script: Script, tmp_path: Path) -> None:
    process = run_script(ROOT / "examples" / "transformers_models.py", "--epochs", 1, "-o", "bert.onnx")
    assert process.returncode == 0, process.stderr
    assert process.stderr == ""
    assert "weights bit for bit: ok" in process.stdout
    session = load_session(tmp_path / "bert.onnx")
    assert [item.name for item in session.get_inputs()] == ["input_ids", "attention_mask"]
    assert [item.name for item in session.get_outputs()] == ["logits"]
    with pytest.raises(codeq.CheckpointError) as caught:
        codeq.load(tmp_path / "bert.pt")
    option = shlex.split(str(caught.value).partition("; pass ")[2])
    process = run_script("-m", "export.onnx", "bert.pt", "-o", "again.onnx", *option, "--check", 8)
    assert process.returncode == 0, process.stderr
    assert [item.name for item in load_session(tmp_path / "again.onnx").get_inputs()] == ["input"]


def test_what_the_readme_names_exists() -> None:
    scripts = {path.name: path.read_text() for path in (ROOT / "examples").glob("*.py")}
    assert {*re.findall(r"\]\((.*?)\)", README)} == {*scripts, "browser/", "../docs/devices.md"}
    for script, options in re.findall(r"examples/(\w+\.py)([^`\n]*)`", README):
        for option in re.findall(r"(?<= )--?[a-z-]+", options):
            assert f'"{option}"' in scripts[script], option
    advice = README.partition("What a wrapped loop has to know:")[2].partition("On two processes")[0]
    names = re.findall(r"`(?:codeq\.)?(\w+)(?:=\w+)?`", advice)
    assert {"prepare", "unwrap_model", "freeze", "find_unused_parameters"} <= set(names)
    for name in names:
        assert name in scripts["accelerate_loop.py"] or name in signature(Accelerator.unwrap_model).parameters, name
    extra = re.search(r"\.\[(\w+)\]", README)
    assert extra
    assert f"\n{extra[1]} = [" in (ROOT / "pyproject.toml").read_text()
