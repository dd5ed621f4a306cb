"""The log of a run: what is written is read back, resumptions cut it, damage is named by line and field."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from codeq.errors import CodeqError, OutputError
from codeq.run_log import RunLog, read_run

pytestmark = pytest.mark.quick

Make = Callable[..., dict[str, Any]]


def events(path: Path) -> list[tuple[str, int | None]]:
    records = [json.loads(line) for line in path.read_text().splitlines()]
    return [(record["event"], record.get("epoch")) for record in records]


def test_what_is_written_is_read(
    tmp_path: Path, start_record: dict[str, Any], epoch_record: Make, result_record: Make
) -> None:
    path = tmp_path / "net.jsonl"
    log = RunLog(path)
    log.write(start_record)
    log.write(epoch_record(1))
    unfinished = read_run(path)  # each record is there as soon as it is written
    assert (unfinished.name, unfinished.config, unfinished.path) == ("net", {"bits": 4}, path)
    assert unfinished.epochs == (epoch_record(1),)
    assert unfinished.result is None
    log.write(result_record())
    log.close()
    assert read_run(path).result == result_record()


def test_nan_and_infinity_are_null(tmp_path: Path, start_record: dict[str, Any], epoch_record: Make) -> None:
    path = tmp_path / "net.jsonl"
    layers = epoch_record(1)["layers"]
    layers[0] = layers[0] | {"theta_dz": float("nan")}
    with RunLog(path) as log:
        log.write(start_record | {"config": {"limits": (1.0, float("-inf"))}})
        log.write(epoch_record(1, loss=float("inf")) | {"layers": layers})
    assert "NaN" not in path.read_text()
    assert "Infinity" not in path.read_text()
    run = read_run(path)
    assert run.config == {"limits": [1.0, None]}
    assert run.epochs[0]["loss"] is None
    assert run.epochs[0]["layers"][0]["theta_dz"] is None


@pytest.mark.parametrize("number", ["NaN", "-Infinity", "1e999", "-1e305"])
def test_numbers_of_other_writers_become_null(tmp_path: Path, write_log: Callable[..., Path], number: str) -> None:
    path = write_log(tmp_path / "net.jsonl", epochs=1)
    path.write_text(path.read_text().replace('"loss": 1.0', f'"loss": {number}'))
    assert read_run(path).epochs[0]["loss"] is None


def test_a_new_run_replaces_the_log(tmp_path: Path, write_log: Callable[..., Path]) -> None:
    path = write_log(tmp_path / "net.jsonl", "old", epochs=3)
    write_log(path, "new", epochs=1, finished=False)
    assert events(path) == [("start", None), ("epoch", 1)]
    assert read_run(path).name == "new"


def test_a_resumed_run_continues_the_log(
    tmp_path: Path, write_log: Callable[..., Path], start_record: dict[str, Any], epoch_record: Make
) -> None:
    path = write_log(tmp_path / "net.jsonl", epochs=4)
    with path.open("a") as file:
        file.write('{"event": "epoch", "epo')  # what a killed run leaves
    with RunLog(path, resumed_epoch=2) as log:
        assert events(path) == [("start", None), ("epoch", 1), ("epoch", 2)]
        log.write(start_record | {"resumed_epoch": 2})
        log.write(epoch_record(3, loss=7.0))
    assert events(path) == [("start", None), ("epoch", 1), ("epoch", 2), ("start", None), ("epoch", 3)]
    run = read_run(path)
    assert [(epoch["epoch"], epoch["loss"]) for epoch in run.epochs] == [(1, 1.0), (2, 0.5), (3, 7.0)]
    assert run.result is None
    assert [file.name for file in tmp_path.iterdir()] == ["net.jsonl"]


def test_a_resumed_run_without_a_log_starts_one(
    tmp_path: Path, start_record: dict[str, Any], epoch_record: Make
) -> None:
    path = tmp_path / "net.jsonl"
    with RunLog(path, resumed_epoch=2) as log:
        log.write(start_record | {"resumed_epoch": 2})
        log.write(epoch_record(3))
    assert [epoch["epoch"] for epoch in read_run(path).epochs] == [3]


def test_the_reader_drops_what_a_resumption_did_again(tmp_path: Path, write_log: Callable[..., Path]) -> None:
    path = write_log(tmp_path / "net.jsonl", epochs=3)
    again = write_log(tmp_path / "again.jsonl", epochs=2, finished=False).read_text().splitlines()
    start = json.dumps(json.loads(again[0]) | {"resumed_epoch": 1})
    path.write_text(path.read_text() + f"{start}\n{again[2]}\n")
    run = read_run(path)
    assert [epoch["epoch"] for epoch in run.epochs] == [1, 2]
    assert run.result is None


@pytest.mark.parametrize("cut", [1, 10, 100])
def test_a_last_line_without_its_end_is_ignored(tmp_path: Path, write_log: Callable[..., Path], cut: int) -> None:
    path = write_log(tmp_path / "net.jsonl", epochs=2, finished=False)
    path.write_bytes(path.read_bytes()[: -1 - cut])
    assert [epoch["epoch"] for epoch in read_run(path).epochs] == [1]


def test_a_log_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"cannot write .*net.jsonl: No such file"):
        RunLog(tmp_path / "missing" / "net.jsonl")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_full_disk(start_record: dict[str, Any]) -> None:
    log = RunLog("/dev/full")
    with pytest.raises(OutputError, match="cannot write /dev/full: No space left"):
        log.write(start_record)
    with pytest.raises(OutputError, match="No space left"):
        log.close()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"event": "stop"}, "event 'stop', expected one of start, epoch, result"),
        ({"epoch": 0}, "epoch record: epoch is 0, expected an integer of at least 1"),
        ({"epoch": True}, "epoch record: epoch is True"),
        ({"loss": "low"}, "epoch record: loss is 'low', expected a number or null"),
        ({"sparsity": 1.5}, "epoch record: sparsity is 1.5, expected a number from 0 to 1, or null"),
        ({"layers": {}}, "epoch record: layers is {}, expected a list"),
        ({"layers": [3]}, r"epoch record: layers\[0\] is 3, expected an object"),
        (
            {"layers": [{"name": "a\x1b[31m"}]},
            r"epoch record: layers\[0\].name is 'a\\x1b\[31m', expected printable text",
        ),
        ({"layers": [{"name": "a", "bits": 4}]}, r"epoch record: layers\[0\].sparsity is missing"),
    ],
)
def test_a_field_that_does_not_fit_is_named(
    tmp_path: Path,
    start_record: dict[str, Any],
    epoch_record: Make,
    changes: dict[str, Any],
    message: str,
) -> None:
    record = epoch_record(1) | changes
    path = tmp_path / "net.jsonl"
    path.write_text(f"{json.dumps(start_record)}\n{json.dumps(record)}\n")
    with pytest.raises(CodeqError, match=f"net.jsonl: line 2: {message}"):
        read_run(path)
    with RunLog(tmp_path / "other.jsonl") as log, pytest.raises(ValueError, match=message):
        log.write(record)
    assert (tmp_path / "other.jsonl").read_text() == ""


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot read .*: No such file"),
        (b"", "has no start record"),
        (b"\x89PNG\r\n\x1a\n\x00", "line 1 is no JSON"),
        (b"hello", "line 1 is no JSON"),
        (b"[" * 100_000 + b"\n", "line 1 is no JSON"),
        (b"{}\n", "line 1: a record without event, expected one of start, epoch, result"),
        (b"[]\n", "line 1: a record without event"),
    ],
    ids=["missing", "empty", "binary", "text", "deep", "object", "list"],
)
def test_files_that_are_no_logs(tmp_path: Path, content: bytes | None, message: str) -> None:
    path = tmp_path / "net.jsonl"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(CodeqError, match=message) as caught:
        read_run(path)
    assert "\n" not in str(caught.value)


def test_records_out_of_order(tmp_path: Path, write_log: Callable[..., Path]) -> None:
    path = write_log(tmp_path / "net.jsonl", epochs=2)
    lines = path.read_text().splitlines()
    path.write_text("\n".join([lines[0], lines[2], lines[1], ""]))
    with pytest.raises(CodeqError, match="line 3: epoch 1 after epoch 2, expected a later one"):
        read_run(path)
    path.write_text("\n".join([*lines[1:], ""]))
    with pytest.raises(CodeqError, match="line 1: epoch record before any start record"):
        read_run(path)
    path.write_text("\n".join([lines[0], "half a li", lines[1], ""]))
    with pytest.raises(CodeqError, match="line 2 is no JSON"):
        read_run(path)


def test_logs_are_read_without_pytorch(tmp_path: Path, write_log: Callable[..., Path]) -> None:
    path = write_log(tmp_path / "net.jsonl")
    program = (
        "import sys; sys.modules['torch'] = None; import codeq.figures.comparison; "
        "from codeq.run_log import read_run; "
        f"print(read_run({str(path)!r}).name)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "net\n"), done.stderr
