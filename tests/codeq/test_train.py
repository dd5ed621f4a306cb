"""Training: exact resume, freezing, the float twin, interruption, and the command's bad input."""

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
from codeq import checkpoint
from codeq.layers import quantized_weights
from codeq.learned_step import QuantizedActivations
from codeq.train import DivergedError, EpochResult, TrainConfig, _split, train

SHORT = TrainConfig(epochs=3, batch_size=128, lambda_dz=1.0, freeze_fraction=0.34)


def raw_state(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = torch.load(path, weights_only=True)
    return content


@pytest.mark.parametrize(
    ("bits", "activations"), [(4, "float32"), (None, "float32"), (4, "int8")], ids=["fixed", "mixed", "int8"]
)
@pytest.mark.parametrize("stop_after", [1, 3], ids=["before_freezing", "after_freezing"])
def test_resume_is_bit_identical(bits: int | None, activations: str, stop_after: int, tmp_path: Path) -> None:
    config = replace(SHORT, bits=bits, activations=activations, epochs=4, freeze_fraction=0.5)
    assert config.freeze_epoch == 2
    whole = train(config, tmp_path / "whole.pt")

    def stop(row: EpochResult) -> None:
        if row.epoch + 1 == stop_after:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(config, tmp_path / "part.pt", on_epoch=stop)
    torch.manual_seed(99)  # what happens in between must not matter
    rest = train(config, tmp_path / "part.pt", resume=checkpoint.load(tmp_path / "part.pt"))
    assert rest.history == whole.history
    expected, found = raw_state(tmp_path / "whole.pt"), raw_state(tmp_path / "part.pt")
    assert expected["metrics"] == found["metrics"]
    assert expected["activations"] == found["activations"]
    assert (expected["activations"] is None) == (activations == "float32")
    for name, tensor in expected["state_dict"].items():
        assert torch.equal(tensor, found["state_dict"][name]), name


def test_a_run_freezes_and_stores_what_export_needs(tmp_path: Path) -> None:
    result = train(SHORT, tmp_path / "a.pt")
    loaded = codeq.load(tmp_path / "a.pt")
    assert all(bool(weight.quantizer.frozen) for weight in quantized_weights(loaded.model))
    assert result.cost.sparsity == loaded.metrics["sparsity"]
    # So strong a lambda reaches its zeros within the first epoch; which way they go from there is up to the draws.
    assert all(row.sparsity > 0.5 for row in result.history)
    assert loaded.held_inputs is not None
    assert loaded.held_inputs.shape == (128, 1, 8, 8)
    assert set(loaded.preprocessing) == {"mean", "std"}
    assert loaded.training is not None
    assert loaded.training["complete"]


def test_the_float_twin_has_no_quantizers(tmp_path: Path) -> None:
    result = train(replace(SHORT, bits=32, epochs=1), tmp_path / "a.pt")
    assert not list(quantized_weights(codeq.load(tmp_path / "a.pt").model))
    assert result.cost.relative_bops == 1


@pytest.mark.parametrize(
    "changes", [{"epochs": 0}, {"batch_size": 1}, {"freeze_fraction": 2.0}, {"bits": 9}, {"lr": "x"}]
)
def test_a_recipe_out_of_range_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(changes))} must be"):
        TrainConfig(**changes)


def test_a_last_batch_of_one_joins_the_one_before() -> None:
    assert [len(batch) for batch in _split(torch.arange(9), 4)] == [4, 5]
    assert [len(batch) for batch in _split(torch.arange(10), 4)] == [4, 4, 2]
    assert [len(batch) for batch in _split(torch.arange(1), 4)] == [1]


def test_mixed_precision_learns_fewer_bits(tmp_path: Path) -> None:
    result = train(replace(SHORT, bits=None, epochs=2, lambda_bit=2.0), tmp_path / "a.pt")
    assert 2 <= result.history[-1].bits < 8
    assert result.cost.mean_bits == pytest.approx(result.history[-1].bits)


def test_a_diverging_run_stops_and_leaves_the_last_epoch(tmp_path: Path) -> None:
    with pytest.raises(DivergedError, match="holds epoch 0; try a smaller --lr"):
        train(replace(SHORT, lr=1e3), tmp_path / "a.pt")
    assert codeq.load(tmp_path / "a.pt").training is not None


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
    assert [file.name for file in tmp_path.iterdir()] == ["ckpt.pt"]


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


def test_int8_activations_are_learned_and_stored(tmp_path: Path) -> None:
    config = replace(SHORT, activations="int8")
    result = train(config, tmp_path / "a.pt")
    loaded = codeq.load(tmp_path / "a.pt")
    assert loaded.activations is not None
    assert set(loaded.activations) >= {"input", "conv1", "block1.add", "pool"}
    # Learned, not only calibrated: steps have moved from where an untrained copy starts.
    quantized = QuantizedActivations(loaded.model, (loaded.calibration_inputs[:2],))  # type: ignore[index]
    quantized.calibrate((loaded.calibration_inputs,))  # type: ignore[arg-type]
    assert any(quantized.encodings()[name] != grid for name, grid in loaded.activations.items())
    assert 0 <= result.test_accuracy <= 1


@pytest.mark.parametrize("arguments", [["--bits", "32"], ["--grid", "paper"]])
def test_int8_activations_need_integer_weights(run_command: Any, arguments: list[str], tmp_path: Path) -> None:
    done = run_command("codeq.train", "--activations", "int8", *arguments, "-o", tmp_path / "a.pt")
    assert done.returncode == 2
    assert "--activations int8 needs quantized weights on the integer grid" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []
