"""Write and read the log of a training run: JSON lines, one record each, written as training goes.

    record  fields
    ------  ---------------------------------------------------------------------------------------------------
    start   name, config {...}, versions {...}, steps, world_size, resumed_epoch (0: from the beginning)
    epoch   epoch (from 1), loss, test_accuracy, sparsity, bits, relative_bops, entropy_bytes, lambda_dz,
            lambda_bit, lr, seconds, layers [{name, bits, sparsity, theta_dz, theta_bit (null: fixed)}]
    result  test_accuracy, cost (`CostSummary.to_dict()`), weights [{name, edges [low, high], counts [...],
            dead_zone, levels [...]}]

`event` says which one a record is. Accuracy and sparsity are shares in [0, 1]; a number that was NaN or infinite
is null. Each resumption adds a start record. `counts` is a histogram of the float weights behind the quantizer in
equal bins from `edges[0]` to `edges[1]`; `dead_zone` (full width) and `levels` are in weight units.
"""

import json
import math
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Self

from codeq.errors import CodeqError, OutputError
from codeq.toolkit.files import check_ordinary, replace_atomically


class _Kind(NamedTuple):
    """Says what a field must be: in words, and as a test."""

    words: str
    holds: Callable[[Any], bool]


def _is_integer(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**63


def _is_number(value: Any) -> bool:
    return _is_integer(value) or isinstance(value, float)


# A name ends up in tables and pictures: one line, and nothing that a terminal would obey.
_TEXT = _Kind("printable text", lambda value: isinstance(value, str) and value != "" and value.isprintable())
_NUMBER = _Kind("a number or null", lambda value: value is None or _is_number(value))
_SHARE = _Kind("a number from 0 to 1, or null", lambda value: value is None or (_is_number(value) and 0 <= value <= 1))
_FINITE = _Kind("a number", _is_number)
_COUNT = _Kind("an integer of at least 0", lambda value: _is_integer(value) and value >= 0)
_FROM_ONE = _Kind("an integer of at least 1", lambda value: _is_integer(value) and value >= 1)
_OBJECT = _Kind("an object", lambda value: isinstance(value, dict))
_EDGES = _Kind(
    "two rising numbers",
    lambda value: isinstance(value, list) and len(value) == 2 and all(map(_is_number, value)) and value[0] < value[1],
)

RECORDS: Mapping[str, dict[str, Any]] = {
    "start": {
        "name": _TEXT,
        "config": _OBJECT,
        "versions": _OBJECT,
        "steps": _COUNT,
        "world_size": _FROM_ONE,
        "resumed_epoch": _COUNT,
    },
    "epoch": {
        "epoch": _FROM_ONE,
        "loss": _NUMBER,
        "test_accuracy": _SHARE,
        "sparsity": _SHARE,
        "bits": _NUMBER,
        "relative_bops": _NUMBER,
        "entropy_bytes": _NUMBER,
        "lambda_dz": _NUMBER,
        "lambda_bit": _NUMBER,
        "lr": _NUMBER,
        "seconds": _NUMBER,
        "layers": [{"name": _TEXT, "bits": _NUMBER, "sparsity": _SHARE, "theta_dz": _NUMBER, "theta_bit": _NUMBER}],
    },
    "result": {
        "test_accuracy": _SHARE,
        "cost": {
            "layers": [{"name": _TEXT, "weight_bits": _NUMBER, "sparsity": _SHARE}],
            "total": {"sparsity": _SHARE, "mean_bits": _NUMBER, "relative_bops": _NUMBER, "entropy_bytes": _NUMBER},
        },
        "weights": [{"name": _TEXT, "edges": _EDGES, "counts": [_COUNT], "dead_zone": _FINITE, "levels": [_FINITE]}],
    },
}
"""The fields that each record must have; a list holds any number of the entry shown. More fields are allowed."""


@dataclass(frozen=True)
class Run:
    """Holds one training run as its log tells it.

    Attributes:
        name: As the run was named.
        path: Of the log.
        config: The recipe, of the latest start record.
        epochs: Epoch records in order, without those that a resumption did again.
        result: The result record; None for a run that has not finished.
    """

    name: str
    path: Path
    config: dict[str, Any]
    epochs: tuple[dict[str, Any], ...]
    result: dict[str, Any] | None


class RunLog:
    """Writes the log of a run, each record as soon as it is there.

    Args:
        path: The log. What is there belongs to an older run and is replaced: ask `check_writable` before.
        resumed_epoch: For a resumed run, the last epoch that its checkpoint holds: what is there up to that epoch
            stays, later epochs and the result go, as they will be written again.

    Raises:
        CodeqError: The log to continue cannot be read.
        OutputError: The file cannot be written.
    """

    def __init__(self, path: str | os.PathLike[str], *, resumed_epoch: int = 0) -> None:
        self.path = Path(path)
        if resumed_epoch and self.path.exists():
            kept = [line for line, record in _read_records(self.path) if _is_before(record, resumed_epoch)]
            with replace_atomically(self.path) as temporary:
                temporary.write_text("".join(f"{line}\n" for line in kept), encoding="utf-8")
        try:
            self._file = self.path.open("a" if resumed_epoch else "w", buffering=1, encoding="utf-8")
        except OSError as error:
            raise OutputError(f"cannot write {self.path}: {error.strerror or error}") from error

    def write(self, record: Mapping[str, Any]) -> None:
        """Append one record; a number that is NaN or infinite becomes null.

        Raises:
            ValueError: The record is none of the module's table; the message names the field.
            OutputError: The file cannot be written.
        """
        plain = _without_nan(record)
        mismatch = _find_mismatch(plain)
        if mismatch:
            raise ValueError(mismatch)
        try:
            self._file.write(json.dumps(plain, allow_nan=False) + "\n")
        except OSError as error:
            raise OutputError(f"cannot write {self.path}: {error.strerror or error}") from error

    def close(self) -> None:
        """Close the file; a closed log takes no more records.

        Raises:
            OutputError: The file cannot be written.
        """
        try:
            self._file.close()
        except OSError as error:  # what a full disk left in the buffer
            raise OutputError(f"cannot write {self.path}: {error.strerror or error}") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def read_run(path: str | os.PathLike[str]) -> Run:
    """Read the log of a run, finished or not.

    A last line without its end is what a killed run leaves, and is ignored.

    Raises:
        CodeqError: The file is missing, is no such log, or has no start record; the message names line and field.
    """
    path = Path(path)
    start: dict[str, Any] | None = None
    epochs: list[dict[str, Any]] = []
    result = None
    for number, (_, record) in enumerate(_read_records(path), 1):
        if record["event"] == "start":
            start, result = record, None
            epochs = [epoch for epoch in epochs if epoch["epoch"] <= record["resumed_epoch"]]
        elif start is None:
            raise CodeqError(f"{path}: line {number}: {record['event']} record before any start record")
        elif record["event"] == "result":
            result = record
        elif epochs and record["epoch"] <= epochs[-1]["epoch"]:
            last = epochs[-1]["epoch"]
            raise CodeqError(f"{path}: line {number}: epoch {record['epoch']} after epoch {last}, expected a later one")
        else:
            epochs.append(record)
    if start is None:
        raise CodeqError(f"{path}: has no start record; expected the log of a training run")
    return Run(start["name"], path, start["config"], tuple(epochs), result)


def _read_records(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every line with the record that it holds, checked."""
    check_ordinary(path, "the log of a training run", CodeqError)
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, 1):
                try:
                    text = line.decode().rstrip("\n")
                    record = json.loads(text, parse_float=_finite, parse_constant=lambda _: None)
                except (ValueError, RecursionError) as error:
                    if not line.endswith(b"\n") and number > 1:
                        return
                    raise CodeqError(f"{path}: line {number} is no JSON; expected the log of a training run") from error
                mismatch = _find_mismatch(record)
                if mismatch:
                    raise CodeqError(f"{path}: line {number}: {mismatch}")
                yield text, record
    except OSError as error:
        raise CodeqError(f"cannot read {path}: {error.strerror or error}") from error


def _is_before(record: dict[str, Any], resumed_epoch: int) -> bool:
    return record["event"] == "start" or (record["event"] == "epoch" and record["epoch"] <= resumed_epoch)


def _finite(text: str) -> float | None:
    # 1e300 is no number that training gives, and would leave float64 in a figure's arithmetic.
    value = float(text)
    return value if abs(value) < 1e300 else None


def _without_nan(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _without_nan(entry) for name, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _find_mismatch(record: Any) -> str:
    """What keeps a value from being a record of the table; empty where nothing does."""
    event = record.get("event") if isinstance(record, dict) else None
    if not isinstance(event, str) or event not in RECORDS:
        found = "a record without event" if event is None else f"event {_show(event)}"
        return f"{found}, expected one of {', '.join(RECORDS)}"
    mismatch = _compare(record, RECORDS[event], "")
    return f"{event} record: {mismatch}" if mismatch else ""


def _compare(value: Any, schema: Any, where: str) -> str:
    if isinstance(schema, _Kind):
        return "" if schema.holds(value) else f"{where} is {_show(value)}, expected {schema.words}"
    if isinstance(schema, list):
        if not isinstance(value, list):
            return f"{where} is {_show(value)}, expected a list"
        found = (_compare(entry, schema[0], f"{where}[{index}]") for index, entry in enumerate(value))
        return next(filter(None, found), "")
    if not isinstance(value, dict):
        return f"{where} is {_show(value)}, expected an object"
    for name, kind in schema.items():
        path = f"{where}.{name}" if where else name
        if name not in value:
            return f"{path} is missing"
        mismatch = _compare(value[name], kind, path)
        if mismatch:
            return mismatch
    return ""


def _show(value: Any) -> str:
    text = ascii(value)
    return text if len(text) <= 40 else f"{text[:37]}..."
