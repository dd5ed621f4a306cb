"""Mutants of .tflite files are the same for the same seed, and every edit changes a file of ours."""

import random
import struct

import pytest

pytest.importorskip("ai_edge_litert", reason="LiteRT is an extra: pip install '.[tflite]'")

from export.backend import get_backend
from export.tflite.file.flatbuffer import align_buffers, pack_model, read
from runtime_tests.fuzz.samples import write_samples
from runtime_tests.fuzz.tflite_files import EDITS, Edit, mutate

SEEDS = range(20)


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    _, files = write_samples(get_backend("tflite"), tmp_path_factory.mktemp("samples"))
    return {file.stem: file.read_bytes() for file in files}


def test_samples_are_of_every_kind(samples: dict[str, bytes]) -> None:
    assert list(samples) == ["float32-litert", "int8-litert"]
    for content in samples.values():
        assert any(tensor.sparsity is not None for tensor in read(content).subgraphs[0].tensors)


def test_a_seed_gives_a_mutant(samples: dict[str, bytes]) -> None:
    for content in samples.values():
        first = [mutate(content, random.Random(seed)) for seed in SEEDS]
        assert first == [mutate(content, random.Random(seed)) for seed in SEEDS]
        assert sum(mutant != content for mutant, _ in first) > 0.8 * len(first)


@pytest.mark.parametrize("edit", dict.fromkeys(EDITS), ids=lambda edit: edit.__name__)
def test_an_edit_changes_a_file(edit: Edit, samples: dict[str, bytes]) -> None:
    content = samples["int8-litert"]
    changed = 0
    for seed in SEEDS:
        model = read(content)
        model.buffers = align_buffers(model)
        before = pack_model(model, len(content))
        edit(model, random.Random(seed))
        try:
            changed += pack_model(model, len(content)) != before
        except (struct.error, TypeError, ValueError, AttributeError, OverflowError):  # it cannot be written
            continue
    assert changed > len(SEEDS) / 4
