"""This module says what a command owes to whoever gives it a bad file, and finds what it did instead."""

from runtime_tests.fuzz.worker import Answer

CPU_SECONDS = 20.0
PEAK_BYTES = 2 * 2**30
LINE = 4000
"""Characters of a line."""
LOG = ".jsonl"
"""A training that has begun leaves its log, also where it diverges."""
LOGGED = ("note: ", "WARNING: ", "warning: ")
"""Lines on stderr that are no error begin with one of these."""


def find(answer: Answer, target: str | None) -> str:
    """Say what is wrong with an answer; empty where nothing is.

    Args:
        answer: Of a command that was given a mutant.
        target: The file that it writes, if it does; there only where it succeeds.
    """
    if answer.status is None:
        return answer.died
    if "Traceback (most recent call last)" in answer.stderr:
        return f"traceback: {answer.stderr.strip().splitlines()[-1]}"
    if answer.status not in (0, 1, 2):
        return f"exit status {answer.status}: {answer.stderr.strip()}"
    if answer.cpu_seconds > CPU_SECONDS:
        return f"{answer.cpu_seconds:.0f} CPU-seconds"
    if answer.peak_bytes > PEAK_BYTES:
        return f"{answer.peak_bytes / 2**30:.1f} GiB"
    lines = answer.stderr.splitlines()
    errors = [line for line in lines if not line.startswith(LOGGED)]
    if (len(errors), len(lines) - len(errors)) != (1, 0) if answer.status == 2 else len(errors) > answer.status:
        return f"{len(lines)} lines on stderr: {lines[0] if lines else ''}"
    for text in (answer.stdout, answer.stderr):
        if not text.replace("\n", "").isprintable():
            return "control characters in its output"
    if any(len(line) > LINE for line in lines):
        return f"a line of {max(map(len, lines))} characters"
    expected = (target,) if target and answer.status == 0 else ()
    left = tuple(name for name in answer.left if not name.endswith(LOG))
    if left != expected:
        return f"leaves {', '.join(left) or 'no file'}"
    return ""
