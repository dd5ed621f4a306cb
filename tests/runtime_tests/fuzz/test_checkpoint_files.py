"""Mutants of checkpoints are the same for the same seed; forged ones have the digest that belongs to them."""

import io
import random

import pytest
import torch

from codeq.content_digest import content_sha256
from runtime_tests.fuzz.checkpoint_files import EDITS, mutate

SEEDS = range(40)


@pytest.fixture(scope="module")
def content() -> bytes:
    values = {"model": {"name": "a", "arguments": {}}, "state": {"w": torch.ones(3, 2)}, "sizes": [1, 2], "rate": 0.5}
    written = io.BytesIO()
    torch.save(values | {"content_sha256": content_sha256(values)}, written)
    return written.getvalue()


def test_a_seed_gives_a_mutant(content: bytes) -> None:
    first = [mutate(content, random.Random(seed)) for seed in SEEDS]
    again = [mutate(content, random.Random(seed)) for seed in SEEDS]
    assert [change for _, change in first] == [change for _, change in again]
    assert sum(mutant != content for mutant, _ in first) > 0.8 * len(first)


def test_half_are_forged_and_half_have_no_digest(content: bytes) -> None:
    digests: list[bool] = []
    seen: set[str] = set()
    for seed in range(200):
        mutant, change = mutate(content, random.Random(seed))
        names = [name for name in EDITS for done in change.split("; ") if done.startswith(name)]
        if not names:
            continue  # its bytes are damaged
        seen.update(names)
        payload = torch.load(io.BytesIO(mutant), weights_only=True)
        digest = payload.pop("content_sha256", None)
        digests.append(digest is not None)
        assert digest is None or digest == content_sha256(payload)
    assert seen == set(EDITS)
    assert 0.3 < sum(digests) / len(digests) < 0.7
