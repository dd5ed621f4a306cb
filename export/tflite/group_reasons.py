"""Reports that name what was left alone give one line per reason."""

from collections import Counter
from collections.abc import Mapping

SHOWN = 3
"""So many of the names that share a reason are shown."""


def group_reasons(reasons: Mapping[str, str]) -> list[str]:
    """Give one line per reason, with the first names that it holds for.

    Examples:
        >>> group_reasons({"a": "too long", "b": "too long"})
        ['a, b: too long']
    """
    lines = []
    for reason, count in Counter(reasons.values()).items():
        names = [name for name, given in reasons.items() if given == reason]
        more = f", ... ({count} in all)" if count > SHOWN else ""
        lines.append(f"{', '.join(names[:SHOWN])}{more}: {reason}")
    return lines
