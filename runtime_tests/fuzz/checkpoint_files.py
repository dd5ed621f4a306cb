"""This module changes checkpoints: their bytes, and what stands in them, as nobody who means well would."""

import io
import random
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from codeq.content_digest import content_sha256
from codeq.seal import seal
from runtime_tests.fuzz.damage import damage

SHARE_OF_DAMAGE = 0.3
"""So many mutants have bytes changed; the others are changed as values."""
MAX_EDITS = 3
DIGEST = "content_sha256"
JUNK: tuple[Any, ...] = (
    None,
    True,
    0,
    -1,
    3,
    2**31,
    2**70,
    0.5,
    -1e300,
    float("nan"),
    "",
    "x",
    "../up",
    "a\nb",
    "\x1b[2J",
    "\u202etxt",
    "\ud800",
    "y" * 5000,
    [],
    [[]],
    {},
    {"a": {}},
    {1: 2},
)
TENSORS: tuple[Callable[[], Tensor], ...] = (
    lambda: torch.zeros(()),
    lambda: torch.zeros(0),
    lambda: torch.ones(3, 1, 7),
    lambda: torch.full((4,), float("nan")),
    lambda: torch.zeros(2, dtype=torch.int64),
    lambda: torch.zeros(2, dtype=torch.complex64),
    lambda: torch.zeros(1).expand(2**40),
    lambda: torch.zeros(2, device="meta"),
    lambda: torch.eye(2).to_sparse(),
)
Holder = tuple[Any, Any]
"""A dictionary or a list, and a key or a position in it."""


def mutate(content: bytes, generator: random.Random) -> tuple[bytes, str]:
    """Change a checkpoint.

    Args:
        content: A file that `codeq.load` takes.
        generator: Decides what is changed.

    Returns:
        The mutant, and what was done. Of the changed values half have the digest that belongs to them, as a forger
        would write it, and half have none, as in files of older releases.
    """
    if generator.random() < SHARE_OF_DAMAGE:
        return damage(content, generator)
    while True:
        payload = torch.load(io.BytesIO(content), weights_only=True)
        done = []
        for _ in range(generator.randint(1, MAX_EDITS)):
            holder, key = _pick(payload, generator)
            name = generator.choice(list(EDITS))
            EDITS[name](holder, key, generator)
            done.append(f"{name} {key!r:.40}")
        payload.pop(DIGEST, None)
        written = io.BytesIO()
        try:
            if generator.random() < 0.5:
                payload[DIGEST] = content_sha256(payload)
            torch.save(payload, written)
            if DIGEST in payload:
                seal(written)
        except (RuntimeError, TypeError, ValueError):  # what torch does not write: half a surrogate pair
            continue
        return written.getvalue(), "; ".join(done)


def _pick(value: Any, generator: random.Random) -> Holder:
    """Walk down from the top, and stop somewhere; each level is as likely as the next."""
    holder, key = value, generator.choice(list(value))
    while True:
        below = holder[key]
        keys = list(below) if isinstance(below, dict) else list(range(len(below))) if isinstance(below, list) else []
        if not keys or generator.random() < 0.3:
            return holder, key
        holder, key = below, generator.choice(keys)


def _junk(holder: Any, key: Any, generator: random.Random) -> None:
    holder[key] = generator.choice(JUNK)


def _tensor(holder: Any, key: Any, generator: random.Random) -> None:
    holder[key] = generator.choice(TENSORS)()


def _drop(holder: Any, key: Any, generator: random.Random) -> None:
    del holder[key]


def _swap(holder: Any, key: Any, generator: random.Random) -> None:
    other = generator.choice(list(holder) if isinstance(holder, dict) else list(range(len(holder))))
    holder[key], holder[other] = holder[other], holder[key]


def _add(holder: Any, key: Any, generator: random.Random) -> None:
    if isinstance(holder, dict):
        holder[generator.choice(["x", "\x1b[2J", 3, "weight", "training"])] = holder[key]
    else:
        holder.append(holder[key])


def _nudge(holder: Any, key: Any, generator: random.Random) -> None:
    value = holder[key]
    if isinstance(value, Tensor) and value.is_floating_point() and value.numel():
        value.view(-1)[0] = generator.choice([0.0, -1.0, 1e30, float("inf")])
    elif isinstance(value, int | float) and not isinstance(value, bool):
        holder[key] = generator.choice([value + 1, -value, value * 10**9, value / 3])
    else:
        _junk(holder, key, generator)


EDITS: Mapping[str, Callable[[Any, Any, random.Random], None]] = {
    "another value of": _junk,
    "a tensor in place of": _tensor,
    "dropped": _drop,
    "swapped": _swap,
    "added beside": _add,
    "nudged": _nudge,
}
