"""A file that is neither old nor new, one that is left over and a record that is lost are seen."""

import json

import pytest

from runtime_tests.kills.judge import find_broken, find_lost_record, find_unfinished

pytestmark = pytest.mark.quick

BEFORE = {"in.pt": b"input", "net.onnx": b"old"}
WHOLE = {"in.pt": b"input", "net.onnx": b"whole"}
EPOCHS = [
    {"event": "start"},
    *({"event": "epoch", "epoch": n, "loss": 0.5, "seconds": n} for n in (1, 2)),
    {"event": "result"},
]


def log(*records: dict[str, object]) -> bytes:
    return "".join(json.dumps(record) + "\n" for record in records).encode()


@pytest.mark.parametrize(
    ("found", "what"),
    [
        (BEFORE, ""),
        (WHOLE, ""),
        (WHOLE | {".net.onnx.12.tmp/net.onnx": b"ha"}, ""),
        (WHOLE | {"net.onnx": b"who"}, "net.onnx is neither the old file nor a new one"),
        ({"in.pt": b"input"}, "net.onnx is lost"),
        (BEFORE | {"in.pt": b"other"}, "in.pt is neither"),
        (BEFORE | {"half.onnx": b"x"}, "half.onnx is left over"),
    ],
)
def test_after_a_kill(found: dict[str, bytes], what: str) -> None:
    answer = find_broken(BEFORE, found, [WHOLE], ["net.onnx"])
    assert (what in answer) if what else not answer


def test_a_new_file_is_whole_or_not_there() -> None:
    assert not find_broken({}, {}, [WHOLE], ["net.onnx"])
    assert find_broken({}, {"net.onnx": b"who"}, [WHOLE], ["net.onnx"]) == "net.onnx is half-written"
    assert not find_broken({}, {"a.json": b'{"seconds": 2}'}, [{"a.json": b'{"seconds": 1}'}], ["a.json"])
    assert find_broken({}, {"a.json": b'{"sec'}, [{"a.json": b"{}"}], ["a.json"]) == "a.json is half-written"


@pytest.mark.parametrize(
    ("found", "what"),
    [
        (WHOLE, ""),
        (WHOLE | {".net.onnx.12.tmp/a": b""}, ".net.onnx.12.tmp/a left over"),
        (WHOLE | {".net.onnx.lock": b"7"}, ".net.onnx.lock left over"),
        ({"in.pt": b"input"}, "net.onnx is missing"),
        (WHOLE | {"net.onnx": b"old"}, "net.onnx is not what a whole run writes"),
    ],
)
def test_after_the_next_run(found: dict[str, bytes], what: str) -> None:
    answer = find_unfinished(found, WHOLE, ["in.pt"])
    assert (what in answer) if what else not answer


def test_records_of_a_training() -> None:
    whole = log(*EPOCHS)
    assert not find_lost_record(log(EPOCHS[0], EPOCHS[1] | {"seconds": 9}, EPOCHS[0], *EPOCHS[2:]), whole)
    assert find_lost_record(log(EPOCHS[0], *EPOCHS[2:]), whole) == "record 1 is epoch 2, expected epoch 1"
    assert find_lost_record(log(*EPOCHS[:3]), whole) == "2 records, expected 3"
    assert find_lost_record(log(*EPOCHS[:2], EPOCHS[1], *EPOCHS[2:]), whole) == "record 2 is epoch 1, expected epoch 2"
    assert find_lost_record(whole[:-5], whole) == "a line is no JSON"
