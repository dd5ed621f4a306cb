"""Mutants of ONNX files are the same for the same seed, and every edit applies to some file of ours."""

import random

import onnx
import pytest

from export.backend import get_backend
from runtime_tests.fuzz.onnx_files import EDITS, mutate
from runtime_tests.fuzz.samples import write_samples

SEEDS = range(20)


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    _, files = write_samples(get_backend("onnx"), tmp_path_factory.mktemp("samples"))
    return {file.stem: file.read_bytes() for file in files}


def test_samples_are_small_and_of_every_kind(samples: dict[str, bytes]) -> None:
    assert list(samples) == ["float32-auto", "float32-sparse", "float32-packed", "int8-auto"]
    assert max(map(len, samples.values())) < 20_000
    assert onnx.load_from_string(samples["float32-packed"]).functions
    assert onnx.load_from_string(samples["float32-sparse"]).graph.sparse_initializer


def test_a_seed_gives_a_mutant(samples: dict[str, bytes]) -> None:
    for content in samples.values():
        first = [mutate(content, random.Random(seed)) for seed in SEEDS]
        assert first == [mutate(content, random.Random(seed)) for seed in SEEDS]
        assert sum(mutant != content for mutant, _ in first) > 0.8 * len(first)


@pytest.mark.parametrize("name", EDITS)
def test_an_edit_changes_a_file(name: str, samples: dict[str, bytes]) -> None:
    changed = 0
    for seed in SEEDS:
        for content in samples.values():
            model = onnx.load_from_string(content)
            before = model.SerializeToString(deterministic=True)
            try:
                EDITS[name](model, random.Random(seed))
            except (IndexError, ValueError, TypeError, RecursionError):
                continue
            changed += model.SerializeToString(deterministic=True) != before
    assert changed > len(SEEDS) / 4
