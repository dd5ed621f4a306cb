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
import models
from codeq.channels.spaces import find_spaces
from codeq.errors import CodeqError
from codeq.run_log import read_run
from codeq.train import main
from codeq.training.budget_controller import BudgetController
from codeq.training.recipe import TrainConfig
from codeq.training.trainer import Trainer, train
from tests.codeq.channels.tables import table_of

ADAMW: dict[str, Any] = {"optimizer": "adamw", "lr": 6e-3, "weight_decay": 1e-2}
SHORT = TrainConfig(**ADAMW, epochs=3, batch_size=128, lambda_dz=1.0, freeze_fraction=0.34)


QUICK = ["--epochs", "1", "--batch-size", "128"]


def raw_state(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = torch.load(path, weights_only=True)
    del content["content_sha256"]  # changed below, as an older file
    return content


@pytest.mark.slow("a run in a process of its own, interrupted and resumed")
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
    assert report["format_version"] == 1
    attached = report["attached"]
    assert attached["inputs"] == 25  # held ones, before training
    assert all(row["weight_decibels"] > 10 and row["result_decibels"] is not None for row in attached["rows"])
    left = f"untrained, outputs keep {attached['output_decibels'][0]:.1f} dB of the float network's signal"
    assert left in " ".join(done.stdout.split())
    assert report["config"]["epochs"] == 1
    assert report["budget"]["met"]
    assert len(report["history"]) == 1
    assert 0 < report["test_accuracy"] <= 1


def refusal(arguments: list[Any], capsys: pytest.CaptureFixture[str]) -> str:
    """What the command says to bad input: one line, by argparse or as an exception for `cli.run`."""
    with pytest.raises((SystemExit, CodeqError)) as caught:
        main([str(argument) for argument in arguments])
    printed = capsys.readouterr()
    assert printed.out == ""
    message = printed.err if isinstance(caught.value, SystemExit) else str(caught.value)
    assert getattr(caught.value, "code", 2) == 2
    assert len(message.strip().splitlines()) == 1, message
    return message


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--lr", "-1"], "expected a number above 0"),
        (["--sparsity", "0.9", "--bops", "0.1"], "error: --sparsity and --bops contradict each other"),
        (["--data", "mnist"], "unknown data set 'mnist'"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(
    run_command: Any, arguments: list[str], message: str, tmp_path: Path
) -> None:
    done = run_command("codeq.train", *arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert message in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert done.stdout == ""
    assert list(tmp_path.iterdir()) == []


def test_bad_input(capsys: pytest.CaptureFixture[str], tmp_path: Path, checkpoint_path: Path) -> None:
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
        (["--model", "gru"], "digits does not fit gru: expected inputs of length x in_features, found shape (1, 8, 8)"),
        (["--data", f"idx:{deep}"], "declares 255 dimensions, expected 3 (images) or 1 (labels)"),
        (["--resume", damaged], "its training state is damaged"),
        (["--resume", strange], "its recipe does not fit this release"),
        (["--bits", "1"], "expected 2 to 8, mixed (learned per layer), or 32 (float twin), found '1'"),
        (["--bits", "40"], "expected 2 to 8, mixed (learned per layer), or 32 (float twin), found '40'"),
        (["--epochs", "0"], "expected an integer from 1 to 1000000, found '0'"),
        (["--lr", "-1"], "expected a number above 0 and at most 1000, found '-1'"),
        (["--lambda-dz", "nan"], "expected a number of at least 0 and at most 1000, found 'nan'"),
        (["--model", "resnet9"], "or package.module:factory, found 'resnet9'"),
        (["--data", "mnist"], "unknown data set 'mnist', expected digits, idx:DIR, cifar10:DIR or images:DIR"),
        (["--data", f"idx:{tmp_path}"], "has no train-images-idx3-ubyte"),
        (["-o", existing], "exists; use --force to overwrite it"),
        (["-o", tmp_path / "nowhere" / "a.pt"], "there is no folder"),
        (["--resume", existing], "not a checkpoint"),
        (["--resume", complete], "the run is complete"),
        (["--resume", checkpoint_path], "was not written by codeq.train"),
        (["--resume", partial, "--recipe", "paper"], "brings its own recipe; leave --recipe out"),
        (["--sparsity", "0.9", "--lambda-dz", "0.1"], "--lambda-dz and --sparsity contradict each other"),
        (["--bits", "32", "--size", "10kB"], "--size needs quantized weights"),
        (["--bops", "0.5"], "50.00% relative BOPs cannot be met by this network at its bit widths: between 0.1"),
        (["--sparsity", "1"], "expected a share above 0 and below 1, such as 0.9, found '1'"),
        (["--size", "10 potatoes"], "expected bytes with a unit such as 200kB or 1.5MB, found '10 potatoes'"),
        (["--teacher", existing], "not a checkpoint"),
        (["--init", tmp_path / "none.pt"], "none.pt: no such file"),
        (["--init", complete, "--model", "resnet20"], "complete.pt"),
        (["--plot", tmp_path / "a.gif"], "expected a name that ends in .png or .svg"),
        (["--best", tmp_path / "new.pt"], "is the file of --output; name another one"),
        (["--log", existing], "exists; use --force to overwrite it"),
        (["--device", "cuda"], "--device cuda: is not available here; use cpu"),
        (["--device", "meta"], "--device meta: is not available here; use cpu"),
        (["--data", f"images:{tmp_path}"], f"{tmp_path}"),
        (["--data", f"cifar10:{tmp_path}"], f"{tmp_path}"),
        (["--resume", partial, "--epochs", "9"], "was started with --epochs 1, not 9; leave --epochs out"),
    ]:
        if "-o" not in arguments:
            arguments = [*arguments, "-o", tmp_path / "new.pt"]
        assert message in refusal(arguments, capsys), arguments
        assert not (tmp_path / "new.pt").exists()
        assert not (tmp_path / "new.jsonl").exists()
    assert existing.read_bytes() == b"old"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--bits", "32"], "--activations int8 needs quantized weights; leave it or --bits 32 out"),
        (["--recipe", "paper"], "use --grid integer --freeze-fraction 0.2"),
    ],
)
def test_int8_activations_need_integer_weights(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert message in refusal(["--activations", "int8", *arguments], capsys)


def test_int8_activations_are_learned_by_the_papers_recipe_as_the_error_says(tmp_path: Path) -> None:
    advice = ["--grid", "integer", "--freeze-fraction", "0.2"]
    output = str(tmp_path / "a.pt")
    assert main(["--recipe", "paper", "--activations", "int8", *advice, *QUICK, "-o", output]) == 0
    assert codeq.load(output).activations


@pytest.mark.parametrize("flag", ["-o", "--best", "--log", "--plot"])
def test_what_a_run_reads_it_never_writes(flag: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    content, file = b"weights", tmp_path / "float.png"
    file.write_bytes(content)
    (tmp_path / "link.png").symlink_to(file)
    for source in ("--teacher", "--init"):
        output = [] if flag == "-o" else ["-o", tmp_path / "new.pt"]
        found = refusal([source, tmp_path / "link.png", flag, file, *output, "--force"], capsys)
        assert f"float.png: is the file of {source}, which is read; name another one" in found
    assert file.read_bytes() == content


def test_a_resumed_run_goes_on_with_its_own_files_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    part, best, log = tmp_path / "part.pt", tmp_path / "best.pt", tmp_path / "part.jsonl"
    other, foreign = tmp_path / "other.pt", tmp_path / "foreign.txt"
    picture = tmp_path / "a.png"
    foreign.write_text("mine")
    picture.write_bytes(b"mine")
    options = [*QUICK, "--bits", "32"]
    assert main([*options, "--seed", "1", "-o", str(other)]) == 0
    with monkeypatch.context() as patch:

        def interrupt(trainer: Trainer) -> None:
            raise KeyboardInterrupt

        patch.setattr(Trainer, "_finish", interrupt)
        assert main([*options, "-o", str(part), "--best", str(best)]) == 130
    assert f"stopped; {part} holds the last whole epoch, continue with --resume {part}" in capsys.readouterr().err
    kept = best.read_bytes()
    for flag, file in [
        ("--best", other),  # of another recipe
        ("--best", foreign),
        ("--log", foreign),
        ("--log", tmp_path / "other.jsonl"),
        ("--plot", picture),  # drawn at the end of a run: none of this one is there
    ]:
        before = file.read_bytes()
        assert f"{file} exists; use --force to overwrite it" in refusal(["--resume", part, flag, file], capsys)
        assert file.read_bytes() == before
    elsewhere = ["--resume", part, "-o", tmp_path / "new.pt", "--force"]
    assert "part.pt: is the file of --resume, which is read" in refusal([*elsewhere, "--best", part], capsys)
    assert main(["--resume", str(part), "--best", str(best)]) == 0
    assert best.read_bytes() == kept
    assert [epoch["epoch"] for epoch in read_run(log).epochs] == [1]


@pytest.mark.slow("it trains")
def test_a_resumed_run_finds_its_files_where_they_were_moved_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    part, teacher, times = (tmp_path / name for name in ("part.pt", "float.pt", "times.json"))
    assert main([*QUICK, "--bits", "32", "-o", str(teacher)]) == 0
    model = models.resnet8(in_channels=1, input_size=8)
    codeq.attach(model, 8, channels=True)
    table_of(find_spaces(model, torch.zeros(2, 1, 8, 8))).write(times)
    read = ["--teacher", str(teacher), "--latency", "0.6", "--kernel-times", str(times)]
    with monkeypatch.context() as patch:

        def interrupt(trainer: Trainer) -> None:
            raise KeyboardInterrupt

        patch.setattr(Trainer, "_finish", interrupt)
        assert main([*QUICK, *read, "--bits", "8", "-o", str(part), "--best", str(tmp_path / "best.pt")]) == 130
    capsys.readouterr()
    moved = tmp_path / "moved"
    moved.mkdir()
    for file in (teacher, times):
        file.rename(moved / file.name)
    assert "o such file" in refusal(["--resume", part], capsys)
    there = ["--teacher", moved / "float.pt", "--kernel-times", moved / "times.json"]
    other = json.loads((moved / "times.json").read_text())
    other["layers"]["conv1.weight"]["others"] += 1.0
    (moved / "other.json").write_text(json.dumps(other))
    assert "another table" in refusal(["--resume", part, *there[:3], moved / "other.json"], capsys)
    assert main(["--resume", str(part), *map(str, there), "--best", str(tmp_path / "best.pt")]) in (0, 1)
    finished = codeq.load(part).training
    assert finished is not None
    assert finished["complete"]
    assert finished["config"]["teacher"] == str(moved / "float.pt")


def test_the_trained_network_is_the_best_where_no_epoch_trains_on_frozen_grids(tmp_path: Path) -> None:
    output, best = tmp_path / "a.pt", tmp_path / "best.pt"
    assert main(["--recipe", "paper", *QUICK, "-o", str(output), "--best", str(best)]) == 0
    expected, found = codeq.load(output), codeq.load(best)
    assert found.metrics == expected.metrics
    assert all(
        torch.equal(value, expected.model.state_dict()[name]) for name, value in found.model.state_dict().items()
    )


def test_a_tensorboard_folder_that_cannot_be_written_costs_no_old_log(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "net.jsonl").write_text("old")
    (tmp_path / "file").write_text("")
    arguments = ["--epochs", 1, "-o", tmp_path / "net.pt", "--force", "--tensorboard", tmp_path / "file"]
    assert f"cannot write {tmp_path / 'file'}" in refusal(arguments, capsys)
    assert (tmp_path / "net.jsonl").read_text() == "old"
    assert not (tmp_path / "net.pt").exists()


@pytest.mark.slow("six epochs")
@pytest.mark.full
def test_a_run_shows_bits_and_zeros_moving(run_command: Any, tmp_path: Path) -> None:
    options = ["--epochs", 6, "--batch-size", 64, "--bits", "mixed", "--bops", 0.08, "--best", "best.pt"]
    pictures = ["--plot", "moving.png", "--tensorboard", "events", "-o", "net.pt"]
    done = run_command("codeq.train", *options, *pictures, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "Warning" not in done.stderr
    assert "budget 8.00% relative BOPs: " in done.stdout
    assert {path.name for path in tmp_path.iterdir()} == {"net.pt", "net.jsonl", "best.pt", "moving.png", "events"}
    run = read_run(tmp_path / "net.jsonl")
    assert len(run.epochs) == 6
    assert run.result is not None
    bits = [{layer["bits"] for layer in epoch["layers"]} for epoch in run.epochs]
    assert min(bits[-1]) < min(bits[0])
    assert len(bits[-1]) > 1  # layers differ
    assert (tmp_path / "moving.png").read_bytes()[:4] == b"\x89PNG"
    assert list((tmp_path / "events").iterdir())
    assert codeq.load(tmp_path / "best.pt").metrics["test_accuracy"] >= max(e["test_accuracy"] for e in run.epochs[5:])


@pytest.mark.slow("it trains")
@pytest.mark.full
def test_a_budget_that_was_missed_is_exit_code_1(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    # Nothing puts frozen grids back on the target while weights go on.
    monkeypatch.setattr(BudgetController, "_hold", lambda controller: None)
    output, report, picture = tmp_path / "a.pt", tmp_path / "a.json", tmp_path / "a.png"
    options = ["--optimizer", "adamw", "--lr", "0.02", "--sparsity", "0.5", "--freeze-fraction", "0.8", "--epochs", "2"]
    files = ["-o", str(output), "--best", str(tmp_path / "best.pt"), "--json", str(report), "--plot", str(picture)]
    assert main([*options, *files]) == 1
    budget = json.loads(report.read_text())["budget"]
    assert (budget["kind"], budget["target"], budget["margin"], budget["met"]) == ("sparsity", 0.5, 0.01, False)
    assert abs(budget["reached"] - 0.5) > 0.01
    # Above ten seconds, on a busy machine, there is progress, too.
    *_, message = capsys.readouterr().err.splitlines(keepends=True)
    assert message == (
        f"warning: the budget was missed: 50.0% zeros asked for, {budget['reached']:.1%} zeros reached, "
        "margin 1.0% zeros; train for longer, use --optimizer sgd, or ask for less\n"
    )
    loaded = codeq.load(output)
    assert loaded.training is not None
    assert loaded.training["complete"]
    assert sorted(file.name for file in tmp_path.iterdir()) == ["a.json", "a.jsonl", "a.png", "a.pt", "best.pt"]


def test_a_dry_run_writes_nothing(run_command: Any, tmp_path: Path) -> None:
    done = run_command("codeq.train", "--dry-run", "--epochs", 7, "--size", "9kB", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "7 epochs of 45 steps, grids frozen from step 252" in done.stdout
    assert "budget 9.0 kB" in done.stdout
    assert "untrained, outputs keep" in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 100
    assert list(tmp_path.iterdir()) == []


def test_a_dry_run_of_the_float_twin(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["--dry-run", "--bits", "32", "--epochs", "7"]) == 0
    printed = capsys.readouterr().out
    assert "7 epochs of 45 steps, no grids (float)" in printed
    assert "accuracy alone" in printed
    assert list(tmp_path.iterdir()) == []


RANK_FOLDERS = """
import os
from codeq.toolkit import cli
from codeq.train import main
os.chdir(os.environ["RANK"])
cli.run(main)
"""


def train_in_rank_folders(labels: dict[int, bytes], folder: Path) -> subprocess.CompletedProcess[str]:
    """Train in two processes, each in a folder of its own, on 24 images with these labels and one test image."""
    for rank, train_labels in labels.items():
        data = folder / str(rank) / "data"
        data.mkdir(parents=True)
        for split, split_labels in (("train", train_labels), ("t10k", bytes(1))):
            count = len(split_labels)
            header = bytes([0, 0, 8, 3, 0, 0, 0, count, 0, 0, 0, 8, 0, 0, 0, 8])
            pixels = bytes(index * 7 % 251 for index in range(count * 64))
            (data / f"{split}-images-idx3-ubyte").write_bytes(header + pixels)
            (data / f"{split}-labels-idx1-ubyte").write_bytes(bytes([0, 0, 8, 1, 0, 0, 0, count]) + split_labels)
    (folder / "job.py").write_text(RANK_FOLDERS)
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    options = ["--data", "idx:data", "--epochs", "1", "--lambda-dz", "0.1", "--threads", "1", "-o", "a.pt"]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[2])}
    command = [*launch, str(folder / "job.py"), *options]
    return subprocess.run(
        command, capture_output=True, text=True, env=environment, cwd=folder, timeout=300, check=False
    )


@pytest.mark.full
def test_fewer_test_inputs_than_processes(tmp_path: Path) -> None:
    labels = bytes(range(8)) * 3
    done = train_in_rank_folders({0: labels, 1: labels}, tmp_path)
    assert done.returncode == 0, done.stderr
    assert codeq.load(tmp_path / "0" / "a.pt").metrics["test_accuracy"] in (0, 1)


@pytest.mark.full
def test_processes_with_different_data_are_refused(tmp_path: Path) -> None:
    labels = bytes(range(8)) * 3
    done = train_in_rank_folders({0: labels, 1: labels[:-1] + bytes(1)}, tmp_path)
    assert done.returncode != 0
    message = "error: ranks disagree on the network, its recipe and the data: rank 1 differs from rank 0"
    assert f"rank 0: {message}" in done.stderr
    assert "Traceback (most recent call last):\n  File" not in done.stderr.split(message)[0]
    assert not (tmp_path / "0" / "a.pt").exists()


@pytest.mark.full
def test_two_processes_write_one_run(tmp_path: Path) -> None:
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m"]
    options = ["codeq.train", "--epochs", "1", "--lambda-dz", "0.1", "--threads", "1", "-o", "a.pt"]
    root = str(Path(__file__).parents[2])
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": root, "COLUMNS": "100"}
    done = subprocess.run(
        [*launch, *options], capture_output=True, text=True, cwd=tmp_path, env=environment, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("relative BOPs") == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.jsonl", "a.pt"]
    records = [json.loads(line) for line in (tmp_path / "a.jsonl").read_text().splitlines()]
    assert [record["event"] for record in records] == ["start", "epoch", "result"]
    assert records[0]["world_size"] == 2
