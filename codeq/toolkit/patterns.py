"""Options and arguments name layers exactly, as a glob, or as a regular expression behind `re:`."""

import fnmatch
import re
from collections.abc import Collection, Sequence

from codeq.errors import AttachError


def matches(pattern: str, names: Sequence[str]) -> bool:
    """Say whether a pattern names any of `names`; a regular expression must match a whole name.

    Raises:
        AttachError: What follows `re:` is no regular expression.

    Examples:
        >>> matches("layer1.*", ["layer1.0.conv1"]), matches("re:fc|head", ["fc"])
        (True, True)
    """
    if pattern.startswith("re:"):
        try:
            expression = re.compile(pattern.removeprefix("re:"))
        except re.error as error:
            raise AttachError(f"{pattern!r} is not a regular expression: {error}") from error
        return any(expression.fullmatch(name) for name in names)
    return any(fnmatch.fnmatchcase(name, pattern) for name in names)


def find_patterns(chosen: Sequence[str], others: Collection[str]) -> list[str]:
    """Find few globs that match all chosen names and none of the others: what a person would type.

    Tried of each name are its last part behind any layer, and its numbers as any; else it is named exactly.

    Examples:
        >>> find_patterns(["stem", "blocks.0.depthwise", "blocks.1.depthwise"], ["blocks.0.expand", "blocks.1.expand"])
        ['stem', '*.depthwise']
    """
    found: list[str] = []
    for name in chosen:
        if any(matches(pattern, [name]) for pattern in found):
            continue
        tried = (f"*.{name.rpartition('.')[2]}", re.sub(r"\d+", "*", name))
        found.append(next((one for one in tried if _serves(one, chosen, others)), name))
    return found


def _serves(pattern: str, chosen: Sequence[str], others: Collection[str]) -> bool:
    """Say whether a pattern names several of those chosen, and none else."""
    return sum(matches(pattern, [name]) for name in chosen) > 1 and not any(matches(pattern, [n]) for n in others)
