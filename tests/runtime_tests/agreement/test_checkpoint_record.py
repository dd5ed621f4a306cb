"""What a file says about its checkpoint is held to the checkpoint, grids included where they can be found again."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import codeq
from codeq.activations.encoding import ActivationEncoding
from codeq.checkpoint import Checkpoint
from export import export_onnx
from export.backend import get_backend
from export.command import run_export
from runtime_tests.agreement.checkpoint_record import compare_with_checkpoint
from tests.small_network import CALIBRATION, PREPROCESSING, Small, X, save_small

MODEL = ("--model", "tests.small_network:Small")


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    return codeq.load(save_small(tmp_path_factory.mktemp("checkpoint") / "small.pt"), Small)


@pytest.fixture(scope="module")
def exported(loaded: Checkpoint) -> Any:
    """An int8 file of the command, whose grids come from the checkpoint's own inputs."""
    path = loaded.path.with_suffix(".onnx")
    assert run_export(get_backend("onnx"), [str(loaded.path), "-o", str(path), "--activations", "int8", *MODEL]) == 0
    return get_backend("onnx").read(path)


def with_metadata(stored: Any, **changes: Any) -> Any:
    return dataclasses.replace(stored, metadata=dataclasses.replace(stored.metadata, **changes))


def moved(stored: Any, name: str, change: Callable[[ActivationEncoding], ActivationEncoding]) -> Any:
    grids = dict(stored.metadata.activations)
    return with_metadata(stored, activations=grids | {name: change(grids[name])})


def ulp(grid: ActivationEncoding) -> ActivationEncoding:
    return ActivationEncoding(float(np.nextafter(np.float32(grid.scale), np.float32(9))), grid.zero_point)


def test_an_export_of_the_checkpoint_holds(loaded: Checkpoint, exported: Any) -> None:
    assert exported.metadata.calibration == {
        "source": "checkpoint",
        "ranges": "mse",
        "cpu": torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
    }
    assert compare_with_checkpoint(exported, loaded) == ([], [])


def test_a_scale_of_the_next_number(loaded: Checkpoint, exported: Any) -> None:
    changed = moved(exported, "first", ulp)
    (difference,), notes = compare_with_checkpoint(changed, loaded)
    assert difference.text.startswith("grid first: found scale ")
    assert (difference.fails, notes) == ("strict", []), "sums in another order move a scale as far"
    calibration = exported.metadata.calibration | {"cpu": "of tomorrow\n"}
    differences, notes = compare_with_checkpoint(with_metadata(changed, calibration=calibration), loaded)
    here = torch.backends.cpu.get_cpu_capability()
    assert differences == []
    assert notes == [
        f"1 grids differ in their last bits: they were found on of tomorrow\\n, and this machine has {here}"
    ]


def test_another_grid_is_none_of_rounding(loaded: Checkpoint, exported: Any) -> None:
    changed = moved(exported, "first", lambda grid: ActivationEncoding(grid.scale, grid.zero_point + 2))
    (difference,), _ = compare_with_checkpoint(changed, loaded)
    assert difference.fails == "same versions"


def test_the_threads_of_the_export_are_taken(loaded: Checkpoint, exported: Any) -> None:
    before = torch.get_num_threads()
    calibration = exported.metadata.calibration
    for threads in (2, 10**9, "many"):
        compare_with_checkpoint(with_metadata(exported, calibration=calibration | {"threads": threads}), loaded)
        assert torch.get_num_threads() == before


@pytest.mark.parametrize("ranges", ["none", None, ["mse"]])
def test_ranges_that_there_are_not(loaded: Checkpoint, exported: Any, ranges: Any) -> None:
    calibration = exported.metadata.calibration | {"ranges": ranges}
    (difference,), _ = compare_with_checkpoint(with_metadata(exported, calibration=calibration), loaded)
    assert "the checkpoint's inputs give no grids: ranges " in difference.text


def test_other_inputs_cannot_be_found_again(loaded: Checkpoint, exported: Any, tmp_path: Path) -> None:
    export_onnx(
        loaded.model,
        X,
        tmp_path / "net.onnx",
        activations="int8",
        calibration=CALIBRATION,
        checkpoint_sha256=loaded.sha256,
        preprocessing=PREPROCESSING,
    )
    stored = get_backend("onnx").read(tmp_path / "net.onnx")
    found = "grids of activations cannot be found again: inputs that were given gave them"
    assert compare_with_checkpoint(stored, loaded) == ([], [found])
    older = with_metadata(exported, calibration={})
    found = "grids of activations cannot be found again: the file does not say what gave them"
    assert compare_with_checkpoint(older, loaded) == ([], [found])


def test_learned_grids_are_the_checkpoints(loaded: Checkpoint, exported: Any) -> None:
    grids = dict(exported.metadata.activations)
    learned = with_metadata(exported, calibration={"source": "learned"})
    (difference,), _ = compare_with_checkpoint(learned, loaded)
    assert difference.text == "metadata calibration: grids learned in training, and the checkpoint holds none"
    trained = dataclasses.replace(loaded, activations=grids)
    assert compare_with_checkpoint(learned, trained) == ([], [])
    (difference,), _ = compare_with_checkpoint(moved(learned, "first", ulp), trained)
    assert (difference.text[:11], difference.fails) == ("grid first:", "same versions")
    fewer = dataclasses.replace(loaded, activations={k: v for k, v in grids.items() if k != "first"})
    note = "1 grids next to layers that were left out are not the checkpoint's: not compared"
    assert compare_with_checkpoint(learned, fewer) == ([], [note])


@pytest.mark.parametrize(
    ("changes", "text", "fails"),
    [
        (
            {"preprocessing": {"mean": [0.1]}},
            "metadata preprocessing: found {'mean': [0.1]}, expected {'mean'",
            "always",
        ),
        ({"preprocessing": {}}, "metadata preprocessing: found none, expected {'mean'", "strict"),
        ({"checkpoint_sha256": "ab"}, "metadata checkpoint_sha256: found ab, expected ", "strict"),
        ({"checkpoint_sha256": None}, "metadata checkpoint_sha256: found none, expected ", "strict"),
    ],
)
def test_the_checkpoint_that_is_named(
    loaded: Checkpoint, exported: Any, changes: dict[str, Any], text: str, fails: str
) -> None:
    (difference,), notes = compare_with_checkpoint(with_metadata(exported, **changes), loaded)
    assert difference.text.startswith(text)
    assert (difference.fails, notes) == (fails, [])
