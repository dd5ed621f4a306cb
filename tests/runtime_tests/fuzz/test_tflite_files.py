"""Mutants of .tflite files are the same for the same seed, and most of them are other files."""

import random

import pytest

from export.backend import get_backend
from runtime_tests.fuzz.samples import write_samples
from runtime_tests.fuzz.tflite_files import mutate

SEEDS = range(20)


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    _, files = write_samples(get_backend("tflite"), tmp_path_factory.mktemp("samples"))
    return [file.read_bytes() for file in files]


def test_a_seed_gives_a_mutant(samples: list[bytes]) -> None:
    for content in samples:
        first = [mutate(content, random.Random(seed)) for seed in SEEDS]
        assert first == [mutate(content, random.Random(seed)) for seed in SEEDS]
        assert sum(mutant != content for mutant, _ in first) > 0.8 * len(first)
        assert len({change for _, change in first}) > 10
