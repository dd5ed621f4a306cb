"""Options that are defined once: a field of a frozen dataclass gives a flag, its bounds, its choices and its help.

    @dataclass(frozen=True, kw_only=True)
    class Settings:
        storage: str = option("auto", "how weights are stored", choices=("auto", "dense"))
        opset: int | None = option(None, "opset to write (default: the lowest)", low=1)

`add_options(parser, Settings)` makes `--storage` and `--opset`; `Settings(**options_of(arguments, Settings))` takes
what was typed; `check_options(settings, ExportError)` holds a call from Python to the same choices and bounds.
"""

import argparse
import dataclasses
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import UnionType
from typing import Any, get_args, get_origin

from codeq.toolkit.cli import integer, number
from codeq.toolkit.text import printable

KEY = "option"
LARGEST = 2**63 - 1
"""A bound as good as none: the largest integer that torch holds."""


@dataclass(frozen=True)
class Option:
    """Says what a field says about its flag.

    Attributes:
        help: One sentence. argparse writes the default behind it, unless that is None or False or `shown` is set.
        choices: The values there are; () for any.
        low, high: Inclusive bounds of a number; None for none.
        above, below: `low`, or `high`, itself is out of bounds.
        metavar: What stands for the value in help.
        parse: Turns text into the value; None takes text, or a number where there are bounds.
        flag: None is the field's name with dashes.
        repeat: The flag may be given several times; the value is a tuple.
        switch: The flag has a twin that says no, e.g. `--flip` and `--no-flip`; the default may be None.
        shown: What help calls the default, where the default itself says little.
        group: Heading in help.
    """

    help: str
    choices: tuple[Any, ...] = ()
    low: float | None = None
    high: float | None = None
    above: bool = False
    below: bool = False
    metavar: str | None = None
    parse: Callable[[str], Any] | None = None
    flag: str | None = None
    repeat: bool = False
    switch: bool = False
    shown: str | None = None
    group: str | None = None


def option(default: Any, help: str, **about: Any) -> Any:
    """Declare a dataclass field with its flag; keywords are those of `Option`."""
    return field(default=default, metadata={KEY: Option(help, **about)})


def option_fields(kind: type) -> dict[str, tuple[dataclasses.Field[Any], Option]]:
    """List the fields of a dataclass that have a flag, by name."""
    return {item.name: (item, item.metadata[KEY]) for item in dataclasses.fields(kind) if KEY in item.metadata}


def flag_of(kind: type, name: str) -> str:
    """Name the flag of a field, e.g. `--activations-except`."""
    return option_fields(kind)[name][1].flag or "--" + name.replace("_", "-")


def add_options(
    parser: argparse.ArgumentParser,
    kind: type,
    names: Iterable[str] | None = None,
    *,
    suppress: bool = False,
    defaults: Mapping[str, Any] | None = None,
) -> None:
    """Add the flags of a dataclass to a parser.

    Args:
        parser: Gets the flags, under their groups.
        kind: The dataclass.
        names: Which of its fields; None takes all that have a flag.
        suppress: Leave a flag that was not typed out of the namespace, so that a default can be told from a wish; help
            shows the default all the same.
        defaults: Other defaults than the dataclass's, by field.
    """
    found = option_fields(kind)
    groups: dict[str, Any] = {}
    for name in found if names is None else names:
        item, about = found[name]
        default = (defaults or {}).get(name, item.default)
        target: Any = parser
        if about.group is not None:
            target = groups.setdefault(about.group, None) or _group(parser, about.group)
            groups[about.group] = target
        target.add_argument(flag_of(kind, name), dest=name, **_keywords(about, default, suppress))


def options_of(arguments: argparse.Namespace | Mapping[str, Any], kind: type) -> dict[str, Any]:
    """Take the values of a dataclass's fields from what was parsed; those that are not there are left out."""
    values = arguments if isinstance(arguments, Mapping) else vars(arguments)
    found = {name: about for name, (_, about) in option_fields(kind).items() if name in values}
    return {name: tuple(values[name]) if about.repeat else values[name] for name, about in found.items()}


def check_options(settings: Any, error: type[Exception]) -> None:
    """Hold a dataclass's values to the types, choices and bounds of its options.

    Raises:
        error: A value is of another type, none of the choices, or out of bounds; one line that says which there are.
    """
    for name, (item, about) in option_fields(type(settings)).items():
        value = getattr(settings, name)
        if about.choices and value not in about.choices:
            found = printable(repr(value))
            raise error(f"{name} {found}, expected one of {', '.join(map(str, about.choices))}")
        if value is not None and (about.low, about.high) != (None, None) and not _is_within(value, about):
            raise error(f"{name} {printable(repr(value))}, expected {describe_bounds(about)}")
        if not about.choices and not _is_of(value, item.type):
            expected = getattr(item.type, "__name__", str(item.type))
            raise error(f"{name} {printable(repr(value))}, expected {expected}")
        if isinstance(value, str) and not _is_plain(value):
            raise error(f"{name} {printable(repr(value))}, expected text that a file's name could have")


def _is_plain(text: str) -> bool:
    """Say whether a text can go to the operating system: no half of a surrogate pair, no NUL."""
    try:
        return b"\0" not in os.fsencode(text)
    except UnicodeEncodeError:
        return False


def _is_of(value: Any, expected: Any) -> bool:
    """Say whether a value is of a field's type, as far as that is written with plain types."""
    if isinstance(expected, UnionType):
        return any(_is_of(value, part) for part in get_args(expected))
    if expected is int or expected is float:
        return isinstance(value, (int, float) if expected is float else int) and not isinstance(value, bool)
    if expected is None:
        return value is None
    kind = get_origin(expected) or expected
    return not isinstance(kind, type) or isinstance(value, kind)


def _is_within(value: Any, about: Option) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float) or value != value:
        return False
    large = about.low is None or (value > about.low if about.above else value >= about.low)
    return large and (about.high is None or (value < about.high if about.below else value <= about.high))


def describe_bounds(about: Option) -> str:
    """Say what numbers an option takes, e.g. "a number above 0 and at most 4"."""
    parts = []
    if about.low is not None:
        parts.append(f"{'above' if about.above else 'of at least'} {_digits(about.low)}")
    if about.high is not None and about.high < LARGEST:
        parts.append(f"{'below' if about.below else 'at most'} {_digits(about.high)}")
    return "a number " + " and ".join(parts)


def _digits(bound: float) -> str:
    return str(bound) if isinstance(bound, int) else f"{bound:g}"


def _group(parser: argparse.ArgumentParser, title: str) -> Any:
    known: Sequence[Any] = parser._action_groups
    return next((group for group in known if group.title == title), None) or parser.add_argument_group(title)


def _keywords(about: Option, default: Any, suppress: bool) -> dict[str, Any]:
    """What argparse is told about one option."""
    shown = about.shown if about.shown is not None else default
    text = about.help.replace("%", "%%")
    hidden = shown is None or shown is False or shown == () or "(default" in text
    if suppress or about.shown is not None:
        text += "" if hidden else f" (default: {str(shown).replace('%', '%%')})"
    keywords: dict[str, Any] = {"help": text, "default": argparse.SUPPRESS if suppress else default}
    if about.switch:
        return keywords | {"action": argparse.BooleanOptionalAction}
    if isinstance(default, bool):
        return keywords | {"action": "store_true" if default is False else argparse.BooleanOptionalAction}
    if about.repeat:
        keywords["action"] = "append"
        if not suppress:
            keywords["default"] = list(default)
    if about.choices:
        keywords["choices"] = list(about.choices)
    if about.metavar is not None:
        keywords["metavar"] = about.metavar
    parse = about.parse or _parse_number(about, default)
    return keywords | ({} if parse is None else {"type": parse})


def _parse_number(about: Option, default: Any) -> Callable[[str], Any] | None:
    if about.low is None:
        return None
    if isinstance(default, float) or isinstance(about.low, float):
        high = float("inf") if about.high is None else about.high
        return number(about.low, high, above=about.above, below=about.below)
    return integer(int(about.low)) if about.high is None else integer(int(about.low), int(about.high))
