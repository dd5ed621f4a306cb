"""Read the values of training's flags that are more than numbers: bits or a word, bytes with a unit, a network."""

import re
from argparse import ArgumentTypeError

from codeq.quantizer.choices import MAX_BITS, MIN_BITS
from codeq.toolkit.suggest import did_you_mean
from models.names import NAMES

FLOAT_BITS = 32
"""The bit width of the float twin: no quantizers."""
SIZE_UNITS = {"B": 1, "kB": 1000, "MB": 10**6, "GB": 10**9, "KiB": 2**10, "MiB": 2**20}
MAX_SIZE = 1e15


def parse_bits(text: str) -> int | None:
    """Read a bit width; "mixed", which is learned, becomes None."""
    if text == "mixed":
        return None
    value = int(text) if text.isdecimal() else 0
    if value != FLOAT_BITS and not MIN_BITS <= value <= MAX_BITS:
        raise ArgumentTypeError(
            f"expected {MIN_BITS} to {MAX_BITS}, mixed (learned per layer), or {FLOAT_BITS} (float twin), "
            f"found {text!r}{did_you_mean(text, ['mixed'])}"
        )
    return value


def parse_size(text: str) -> float:
    """Read a number of bytes with or without a unit, e.g. "1.5MB"."""
    found = re.fullmatch(r"([0-9.]+) *([A-Za-z]*)", text.strip())
    try:
        value = float(found[1]) * SIZE_UNITS[found[2] or "B"] if found else 0.0
    except (ValueError, KeyError):
        value = 0.0
    if not 1 <= value <= MAX_SIZE:
        raise ArgumentTypeError(f"expected bytes with a unit such as 200kB or 1.5MB, found {text!r}")
    return value


def parse_share(text: str) -> float:
    """Read a share above 0 and below 1."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 < value < 1:
        raise ArgumentTypeError(f"expected a share above 0 and below 1, such as 0.9, found {text!r}")
    return value


def parse_model(text: str) -> str:
    """Accept a network of the registry, or a function of the user's."""
    if text not in NAMES and ":" not in text:
        raise ArgumentTypeError(
            f"expected one of {', '.join(NAMES)}, or package.module:factory, found {text!r}{did_you_mean(text, NAMES)}"
        )
    return text
