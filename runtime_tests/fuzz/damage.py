"""This module damages bytes as disks, networks and careless tools do, whatever the format."""

import random
from collections.abc import Callable, Mapping

MAX_FLIPS = 8
MAX_BLOCK = 512


def damage(content: bytes, generator: random.Random) -> tuple[bytes, str]:
    """Damage a file in one way of DAMAGES.

    Args:
        content: The file, not empty.
        generator: Decides where and how.

    Returns:
        The damaged file, and what was done.
    """
    name = generator.choice(list(DAMAGES))
    return DAMAGES[name](content, generator), name


def _flip(content: bytes, generator: random.Random) -> bytes:
    changed = bytearray(content)
    for _ in range(generator.randint(1, MAX_FLIPS)):
        changed[generator.randrange(len(changed))] ^= 1 << generator.randrange(8)
    return bytes(changed)


def _truncate(content: bytes, generator: random.Random) -> bytes:
    return content[: generator.randrange(len(content))]


def _block(content: bytes, generator: random.Random) -> tuple[int, int]:
    start = generator.randrange(len(content))
    return start, min(len(content), start + generator.randint(1, MAX_BLOCK))


def _zero(content: bytes, generator: random.Random) -> bytes:
    start, end = _block(content, generator)
    return content[:start] + bytes(end - start) + content[end:]


def _drop(content: bytes, generator: random.Random) -> bytes:
    start, end = _block(content, generator)
    return content[:start] + content[end:]


def _repeat(content: bytes, generator: random.Random) -> bytes:
    start, end = _block(content, generator)
    return content[:end] + content[start:end] + content[end:]


def _overwrite(content: bytes, generator: random.Random) -> bytes:
    start, end = _block(content, generator)
    return content[:start] + generator.randbytes(end - start) + content[end:]


DAMAGES: Mapping[str, Callable[[bytes, random.Random], bytes]] = {
    "bits flipped": _flip,
    "cut short": _truncate,
    "a block zeroed": _zero,
    "a block dropped": _drop,
    "a block repeated": _repeat,
    "a block overwritten": _overwrite,
}
