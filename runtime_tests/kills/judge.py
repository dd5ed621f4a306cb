"""This module says what a killed command owes to its folder, and finds what it left instead."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

TIMES = ("seconds", "resumed_epoch")
"""Fields of a log's records that differ between two runs that do the same."""
Files = Mapping[str, bytes]
"""Content by name."""


def read_folder(folder: Path) -> dict[str, bytes]:
    """Read every file below a folder, by its path in it."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def is_written(name: str, writes: Sequence[str]) -> bool:
    """Say whether a file is one that the command writes, or in such a folder."""
    return any(name == one or (one.endswith("/") and name.startswith(one)) for one in writes)


def find_broken(before: Files, found: Files, whole: Sequence[Files], writes: Sequence[str]) -> str:
    """Say what is wrong right after a kill; empty where nothing is.

    Args:
        before: The folder before the command ran.
        found: The folder after the kill.
        whole: Folders as they may be once something is complete: after a whole run, or after each epoch of one.
        writes: Names that the command writes; those of folders end in a slash.
    """
    for name, content in before.items():
        if name not in found:
            return f"{name} is lost"
        if found[name] != content and not (is_written(name, writes) and _is_one_of(name, found[name], whole)):
            return f"{name} is neither the old file nor a new one"
    for name, content in found.items():
        if name in before or name.startswith("."):
            continue
        if not is_written(name, writes):
            return f"{name} is left over"
        if not _is_one_of(name, content, whole):
            return f"{name} is half-written"
    return ""


def find_unfinished(found: Files, whole: Files, older: Sequence[str]) -> str:
    """Say what is wrong after the next run, which was not killed.

    Args:
        found: The folder.
        whole: The folder after a run that was never killed.
        older: Names in the folder that need not be as there.
    """
    extra = sorted(set(found) - set(whole) - set(older))
    if extra:
        return f"{', '.join(extra)} left over"
    for name, content in whole.items():
        if name not in found:
            return f"{name} is missing"
        if name.endswith(".jsonl"):
            if (what := find_lost_record(found[name], content)) != "":
                return f"{name}: {what}"
        elif found[name] != content and not _is_record(name, found[name]):
            return f"{name} is not what a whole run writes"
    return ""


def find_lost_record(found: bytes, whole: bytes) -> str:
    """Compare two logs of a training, but for times and starts; says the first record that is lost or another."""
    try:
        ours, theirs = _records(found), _records(whole)
    except ValueError:
        return "a line is no JSON"
    for number, (one, other) in enumerate(zip(ours, theirs, strict=False), start=1):
        if one != other:
            return f"record {number} is {_name(one)}, expected {_name(other)}"
    return "" if len(ours) == len(theirs) else f"{len(ours)} records, expected {len(theirs)}"


def _records(log: bytes) -> list[dict[str, object]]:
    records = [json.loads(line) for line in log.decode().splitlines()]
    kept = [record for record in records if record["event"] != "start"]
    return [{key: value for key, value in record.items() if key not in TIMES} for record in kept]


def _name(record: Mapping[str, object]) -> str:
    return f"{record['event']} {record.get('epoch', '')}".strip()


def _is_one_of(name: str, content: bytes, whole: Sequence[Files]) -> bool:
    if any(files.get(name) == content for files in whole):
        return True
    return _is_record(name, content)


def _is_record(name: str, content: bytes) -> bool:
    """Say whether a file of records, which hold times, can be read to its end."""
    if not name.endswith((".json", ".jsonl")):
        return False
    lines = [content] if name.endswith(".json") else content.splitlines()
    try:
        return all(json.loads(line) is not None for line in lines)
    except ValueError:
        return False
