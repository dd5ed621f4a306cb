"""Damage is the same for the same seed, and changes the file."""

import random

import pytest

from runtime_tests.fuzz.damage import DAMAGES, damage

pytestmark = pytest.mark.quick

CONTENT = bytes(range(1, 200))


@pytest.mark.parametrize("name", DAMAGES)
def test_every_kind_changes_a_file(name: str) -> None:
    changed = [DAMAGES[name](CONTENT, random.Random(seed)) for seed in range(5)]
    assert all(content != CONTENT for content in changed)
    assert changed == [DAMAGES[name](CONTENT, random.Random(seed)) for seed in range(5)]


def test_a_byte_is_enough() -> None:
    for seed in range(50):
        damage(b"x", random.Random(seed))
