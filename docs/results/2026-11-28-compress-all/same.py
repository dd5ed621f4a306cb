"""Compare two runs of all.sh: every figure of every file but times; lines that differ are printed.

python docs/results/2026-11-28-compress-all/same.py OUT OTHER_OUT
"""

import json
import sys
from collections.abc import Iterator
from pathlib import Path

TIMES = ("seconds", "cpu_seconds", "export_seconds", "peak_mb", "latency_ms", "commit", "openvino, ms, medians of 100")


def rows(path: Path) -> Iterator[tuple[str, dict[str, object]]]:
    """Give the JSON lines of a log or table, each by what it is about."""
    for number, line in enumerate(path.read_text().splitlines()):
        if line.startswith("{"):
            row = json.loads(line)
            name = row.get("file", row.get("network", row.get("what", number)))
            yield f"{name} {row.get('round', '')}".strip(), row


def main(first: str, second: str) -> int:
    status = 0
    for path in sorted([*Path(first).glob("*.log"), *Path(first).glob("*/files.jsonl")]):
        other = Path(second) / path.relative_to(first)
        if not other.exists():
            continue
        ours, theirs = dict(rows(path)), dict(rows(other))
        if not ours:
            continue
        shared = [name for name in ours if name in theirs]
        unlike = []
        for name in shared:
            figures = [
                {key: value for key, value in row.items() if key not in TIMES} for row in (ours[name], theirs[name])
            ]
            unlike += [name] if figures[0] != figures[1] else []
        print(f"{path.relative_to(first)}: {len(shared) - len(unlike)} of {len(ours)} lines are equal but for times")
        for name in unlike:
            status = 1
            print("   ", json.dumps(ours[name]), "\n   ", json.dumps(theirs[name]))
    return status


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
