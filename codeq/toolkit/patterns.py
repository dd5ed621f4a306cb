"""Options and arguments name layers exactly, as a glob, or as a regular expression behind `re:`."""

import fnmatch
import re
from collections.abc import Sequence

from codeq.errors import AttachError


def matches(pattern: str, names: Sequence[str]) -> bool:
    """Say whether a pattern names any of `names`; a regular expression must match a whole name.

    Raises:
        AttachError: What follows `re:` is no regular expression.

    Example:
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
