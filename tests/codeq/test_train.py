"""`python -m codeq.train`: what it prints and writes, interruption, several processes, bad input."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import codeq
from codeq.recipe import TrainConfig
from codeq.run_log import read_run
from codeq.trainer import train

ADAMW: dict[str, Any] = {"optimizer": "adamw", "lr": 6e-3, "weight_decay": 1e-2}
SHORT = TrainConfig(**ADAMW, epochs=3, batch_size=128, lambda_dz=1.0, freeze_fraction=0.34)


def raw_state(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = torch.load(path, weights_only=True)
    return content


def test_ctrl_c_leaves_a_loadable_checkpoint_that_resumes(tmp_path: Path) -> None:
    output = tmp_path / "ckpt.pt"
    command = [sys.executable, "-m", "codeq.train", "--epochs", "40", "--batch-size", "128", "-o", str(output)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        command,
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
        # A test run in the background (nohup, some CI) ignores SIGINT, and its children would inherit that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    deadline = time.monotonic() + 120
    while not (output.exists() and raw_state(output)["training"]["history"]):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    _, log = process.communicate(timeout=60)
    assert process.returncode == 130
    assert f"continue with --resume {output}" in log
    assert "Traceback" not in log
    loaded = codeq.load(output)
    assert loaded.training is not None
    assert 1 <= len(loaded.training["history"]) < 40
    assert sorted(file.name for file in tmp_path.iterdir()) == ["ckpt.jsonl", "ckpt.pt"]
    assert len(read_run(tmp_path / "ckpt.jsonl").epochs) == len(loaded.training["history"])


def test_the_command_prints_a_table_and_writes_json(run_command: Any, tmp_path: Path) -> None:
    done = run_command("codeq.train", "--epochs", 1, "--json", "a.json", "-o", "a.pt", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "relative BOPs" in done.stdout
    assert "test accuracy" in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 100
    assert "Warning" not in done.stderr
    report = json.loads((tmp_path / "a.json").read_text())
    assert report["config"]["epochs"] == 1
    assert len(report["history"]) == 1
    assert 0 < report["test_accuracy"] <= 1


def test_bad_input_to_the_command(run_command: Any, tmp_path: Path, checkpoint_path: Path) -> None:
    existing = tmp_path / "old.pt"
    existing.write_bytes(b"old")
    complete = tmp_path / "complete.pt"
    train(replace(SHORT, epochs=1), complete)
    partial = tmp_path / "partial.pt"
    content = raw_state(complete)
    content["training"]["complete"] = False
    torch.save(content, partial)
    empty, mismatched = tmp_path / "empty", tmp_path / "mismatched"
    for folder, labels in ((empty, 2), (mismatched, 3)):
        folder.mkdir()
        for split in ("train", "t10k"):
            header = bytes([0, 0, 8, 3, 0, 0, 0, 2, 0, 0, 0, 4, 0, 0, 0, 4])
            (folder / f"{split}-images-idx3-ubyte").write_bytes(header + bytes(range(32)))
            (folder / f"{split}-labels-idx1-ubyte").write_bytes(bytes([0, 0, 8, 1, 0, 0, 0, labels]) + bytes(labels))
    (empty / "train-images-idx3-ubyte").write_bytes(b"")
    tiny, deep = tmp_path / "tiny", tmp_path / "deep"
    for folder in (tiny, deep):
        folder.mkdir()
        for split in ("train", "t10k"):
            images = bytes([0, 0, 8, 3, 0, 0, 0, 2, 0, 0, 0, 2, 0, 0, 0, 2]) + bytes(range(8))
            (folder / f"{split}-images-idx3-ubyte").write_bytes(images)
            (folder / f"{split}-labels-idx1-ubyte").write_bytes(bytes([0, 0, 8, 1, 0, 0, 0, 2, 0, 1]))
    (deep / "train-images-idx3-ubyte").write_bytes(bytes([0, 0, 8, 255]) + bytes(2000))
    damaged, strange = tmp_path / "damaged.pt", tmp_path / "strange.pt"
    config = content["training"]["config"]
    torch.save(content | {"training": {"config": config, "complete": False}}, damaged)
    torch.save(content | {"training": {"config": config | {"epochs": "x"}, "complete": False}}, strange)
    for arguments, message in [
        (["--data", f"idx:{empty}"], "train-images-idx3-ubyte: not an IDX file of unsigned bytes"),
        (["--data", f"idx:{mismatched}"], "2 train images but 3 labels"),
        (["--lr", "1e39"], "expected a number above 0 and at most 1000, found '1e39'"),
        (["--json", tmp_path / "new.pt", "-o", tmp_path / "new.pt"], "is a file that this command reads or writes"),
        (["--json", existing], "exists; use --force to overwrite it"),
        (["--json", tmp_path / "nowhere" / "a.json"], "there is no folder"),
        (["--data", f"idx:{tiny}"], "does not fit resnet8: input_size must be an integer from 4"),
        (["--data", f"idx:{deep}"], "declares 255 dimensions, expected 3 (images) or 1 (labels)"),
        (["--resume", damaged], "its training state is damaged"),
        (["--resume", strange], "its recipe does not fit this release"),
        (["--bits", "1"], "expected 2 to 8, mixed (learned per layer), or 32 (float twin), found '1'"),
        (["--bits", "40"], "expected 2 to 8, mixed (learned per layer), or 32 (float twin), found '40'"),
        (["--epochs", "0"], "expected an integer of at least 1, found '0'"),
        (["--lr", "-1"], "expected a number above 0 and at most 1000, found '-1'"),
        (["--lambda-dz", "nan"], "expected a number of at least 0 and at most 1000, found 'nan'"),
        (["--model", "resnet9"], "invalid choice: 'resnet9'"),
        (["--data", "mnist"], "unknown data set 'mnist', expected digits, idx:DIR, cifar10:DIR or images:DIR"),
        (["--data", f"idx:{tmp_path}"], "has no train-images-idx3-ubyte"),
        (["-o", existing], "exists; use --force to overwrite it"),
        (["-o", tmp_path / "nowhere" / "a.pt"], "there is no folder"),
        (["--resume", existing], "not a checkpoint"),
        (["--resume", complete], "the run is complete"),
        (["--resume", checkpoint_path], "was not written by codeq.train"),
        (["--resume", partial, "--epochs", "9"], "was started with --epochs 1, not 9; leave --epochs out"),
    ]:
        if "-o" not in arguments:
            arguments = [*arguments, "-o", tmp_path / "new.pt"]
        done = run_command("codeq.train", *arguments)
        assert done.returncode == 2, (arguments, done)
        assert message in done.stderr, (arguments, done.stderr)
        assert len(done.stderr.strip().splitlines()) == 1, done.stderr
        assert done.stdout == ""
        assert not (tmp_path / "new.pt").exists()
    assert existing.read_bytes() == b"old"


@pytest.mark.parametrize("arguments", [["--bits", "32"], ["--grid", "paper"]])
def test_int8_activations_need_integer_weights(run_command: Any, arguments: list[str], tmp_path: Path) -> None:
    done = run_command("codeq.train", "--activations", "int8", *arguments, "-o", tmp_path / "a.pt")
    assert done.returncode == 2
    assert "--activations int8 needs quantized weights on the integer grid" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []
