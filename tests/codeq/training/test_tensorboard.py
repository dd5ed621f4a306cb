"""What TensorBoard reads back, read by TensorBoard itself."""

import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from codeq.errors import CodeqError, OutputError
from codeq.training.tensorboard import TensorBoardLog

Make = Callable[..., dict[str, Any]]


def read_scalars(folder: Path) -> dict[str, list[tuple[int, float]]]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # TensorBoard's own
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

        events = EventAccumulator(str(folder))
        events.Reload()
        return {tag: [(point.step, point.value) for point in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


def test_epochs_become_points(tmp_path: Path, start_record: dict[str, Any], epoch_record: Make) -> None:
    with TensorBoardLog(tmp_path / "a" / "b") as log:
        log.write(start_record)
        log.write(epoch_record(1))
        log.write(epoch_record(2, loss=float("nan"), bits=None))
    scalars = read_scalars(tmp_path / "a" / "b")
    assert scalars["run/test_accuracy"] == [(1, 0.5), (2, 0.75)]
    assert scalars["run/loss"] == [(1, 1.0)]
    assert scalars["run/bits"] == [(1, 4.0)]
    assert scalars["layer_bits/features.1.block.conv1.weight"] == [(1, 4.0), (2, 5.0)]
    assert {tag for tag in scalars if tag.startswith("run/")} == {
        f"run/{name}"
        for name in (
            *("loss", "test_accuracy", "sparsity", "bits", "relative_bops"),
            *("entropy_bytes", "lambda_dz", "lambda_bit", "lr"),
        )
    }
    layer_tags = {tag.split("/")[0] for tag in scalars if not tag.startswith("run/")}
    assert layer_tags == {"layer_bits", "layer_sparsity", "layer_theta_dz"}  # theta_bit is None: fixed bits


def test_a_resumed_run_continues_its_curves(tmp_path: Path, start_record: dict[str, Any], epoch_record: Make) -> None:
    with TensorBoardLog(tmp_path) as log:
        log.write(start_record)
        for epoch in (1, 2, 3):
            log.write(epoch_record(epoch))
    with TensorBoardLog(tmp_path) as log:
        log.write(start_record | {"resumed_epoch": 1})
        log.write(epoch_record(2, loss=8.0))
    assert read_scalars(tmp_path)["run/loss"] == [(1, 1.0), (2, 8.0)]


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match=r"cannot write .*file: File exists"):
        TensorBoardLog(tmp_path / "file")


def test_without_tensorboard(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(
        CodeqError,
        match=r"^TensorBoard logs need tensorboard: pip install '.\[tensorboard\]' in a clone of this project$",
    ):
        TensorBoardLog(tmp_path / "logs")
    assert not (tmp_path / "logs").exists()


@pytest.mark.slow("a process of its own")
@pytest.mark.full
def test_nothing_of_third_parties_on_the_screen(tmp_path: Path) -> None:
    program = (
        "from codeq.training.tensorboard import TensorBoardLog\n"
        f"log = TensorBoardLog({str(tmp_path)!r})\n"
        "log.write({'event': 'start', 'resumed_epoch': 0})\n"
        "log.close()"
    )
    done = subprocess.run([sys.executable, "-W", "default", "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
