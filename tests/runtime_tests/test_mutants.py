"""Every small change of a file is seen: of the mutants of each kind of file none survives, but those listed here.

The comparison is that of `runtime_tests.parity`, called in this process; a mutant that passes it is run, too.
"""

import dataclasses
import json
from collections import Counter
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import onnx
import pytest

import codeq
from codeq.checkpoint import Checkpoint
from export.backend import Backend, get_backend
from export.command import run_export
from export.errors import ExportError
from export.metadata import FileMetadata
from export.parity.differences import FileComparison
from export.publish import add_comparison, check_stored
from export.rewrite import BYTES, compare_files, compare_rewritten
from runtime_tests.agreement import checkpoint_record
from runtime_tests.agreement.checkpoint_record import calibrate_again, compare_with_checkpoint
from tests.mutants.mutant import Mutant
from tests.small_network import Small, X, save_small

LEAST = 300
"""Mutants of each kind of file."""
KINDS: Mapping[str, tuple[str, ...]] = {
    "weight-only onnx": (),
    "int8 onnx": ("--activations", "int8"),
    "sparse onnx": ("--storage", "sparse"),
    "packed onnx": ("--storage", "packed"),
    "weight-only tflite": (),
    "sparse tflite": (),
    "int8 tflite": ("--activations", "int8"),
}
"""By kind and backend: flags of the export."""
FULL = ("sparse onnx", "packed onnx", "sparse tflite", "int8 tflite")
"""Kinds for `make full` alone: most of their mutants the others have too."""
WIDE = {"width": 128, "zeros": 0.9}
"""The network of packed and sparse files: large enough for decoders and lists of positions."""
FOUND_AGAIN = "the checkpoint's inputs give the same grids here, wherever they were found first"
SURVIVORS: Mapping[str, str] = {
    "calibration's cpu: given": FOUND_AGAIN,
    "calibration's cpu: min-max": FOUND_AGAIN,
    "calibration's threads: 7": FOUND_AGAIN,
    "calibration: as given": "other inputs are not in the checkpoint: what they gave cannot be found again, as is said",
    "calibration: left out": "older files do not say where grids come from: they cannot be found again, as is said",
}
"""Mutants that no output and no metadata can tell, by their names, and why."""


class Judge:
    """Holds mutants of one file against its checkpoint. The network is traced once for all that record the same."""

    def __init__(self, backend: Backend, path: Path, loaded: Checkpoint) -> None:
        self.backend, self.path, self.loaded = backend, path, loaded
        self.right: Any = backend.read(path)
        self.mutants, self.write = _onnx(path) if backend.name == "onnx" else _tflite(path)
        self.grids: dict[str, Any] = {}

    def calibrate(self, stored: Any, loaded: Checkpoint) -> Any:
        """Find grids again, once for all files that say the same of where they come from."""
        key = repr((stored.metadata.calibration, stored.metadata.activations_except))
        if key not in self.grids:
            self.grids[key] = calibrate_again(stored, loaded)
        return self.grids[key]

    def compare(self, path: Path) -> FileComparison:
        """Compare a file with its checkpoint.

        Raises:
            ExportError: It is refused.
        """
        stored = self.backend.read(path)
        if path != self.path and _recorded(stored.metadata) == _recorded(self.right.metadata):
            return compare_files(self.backend, stored, self.right)
        differences, notes = compare_with_checkpoint(stored, self.loaded)
        compared = compare_rewritten(self.backend, stored, self.loaded.model, X)
        return dataclasses.replace(
            compared, differences=(*compared.differences, *differences), notes=(*compared.notes, *notes)
        )

    def judge(self, mutant: Mutant, path: Path) -> str:
        """How a mutant is seen: "refused", "fails", "fails strictly", "computes otherwise", or "survives".

        Or "not the checkpoint's": what fails so is not written anew, which takes a second.
        """
        self.write(mutant.change, path)
        assert path.read_bytes() != self.path.read_bytes(), f"{mutant.name} is none"
        try:
            if compare_with_checkpoint(self.backend.read(path), self.loaded)[0]:
                return "not the checkpoint's"
            found = self.compare(path)
        except ExportError:
            return "refused"
        if found.first_failure:
            return "fails"
        if any(item.text != BYTES for item in found.differences):
            return "fails strictly"
        stored = self.backend.read(path)
        try:
            verdict = check_stored(self.backend, stored, self.loaded.model, X[:1])
        except ExportError:
            return "refused"
        if not verdict.ok:
            return "computes otherwise"
        return "survives" if add_comparison(verdict, stored, FileComparison(strict=True)).ok else "fails strictly"


def _recorded(metadata: FileMetadata) -> FileMetadata:
    """What a file is written anew with."""
    return dataclasses.replace(metadata, weights=(), versions={}, session_options=None)


Write = Callable[[Callable[[Any], None], Path], None]


def _onnx(path: Path) -> tuple[list[Mutant], Write]:
    from tests.mutants.onnx import mutants

    right = onnx.load(path)
    assert right.SerializeToString(deterministic=True) == path.read_bytes()

    def write(change: Callable[[Any], None], target: Path) -> None:
        model = onnx.ModelProto()
        model.CopyFrom(right)
        change(model)
        target.write_bytes(model.SerializeToString(deterministic=True))

    return list(mutants(right)), write


def _tflite(path: Path) -> tuple[list[Mutant], Write]:
    from export.tflite.file.flatbuffer import align_buffers, pack_model, read
    from tests.mutants.tflite import mutants

    data = path.read_bytes()

    def write(change: Callable[[Any], None], target: Path) -> None:
        model = read(data)
        change(model)
        model.buffers = align_buffers(model)
        target.write_bytes(pack_model(model, len(data)))

    return list(mutants(read(data))), write


@pytest.fixture(
    scope="module", params=[pytest.param(kind, marks=[pytest.mark.full] if kind in FULL else []) for kind in KINDS]
)
def judge(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Judge:
    kind, name = request.param.split()
    if name == "tflite":
        pytest.importorskip("ai_edge_litert", reason="LiteRT is an extra: pip install '.[tflite]'")
    backend = get_backend(name)
    about: dict[str, Any] = WIDE if kind in ("packed", "sparse") else {"width": 8}
    checkpoint = save_small(tmp_path_factory.mktemp("mutants") / "small.pt", **about)
    path = checkpoint.with_name(f"{kind}{backend.suffix}")
    network = ("--model", "tests.small_network:Small", "--model-args", json.dumps({"width": about["width"]}))
    assert run_export(backend, [str(checkpoint), "-o", str(path), *network, *KINDS[request.param]]) == 0
    return Judge(backend, path, codeq.load(checkpoint, partial(Small, about["width"])))


def test_the_right_file_holds(judge: Judge, tmp_path: Path) -> None:
    assert judge.compare(judge.path) == FileComparison()
    copy = tmp_path / judge.path.name
    judge.write(lambda model: None, copy)
    assert {item.text for item in judge.compare(copy).differences} <= {BYTES}


@pytest.mark.slow("more than three hundred files of each kind")
def test_no_mutant_survives(
    judge: Judge, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoint_record, "calibrate_again", judge.calibrate)
    path = tmp_path / judge.path.name
    found = {mutant: judge.judge(mutant, path) for mutant in judge.mutants}
    with capsys.disabled():
        print(f"\n{judge.path.name}: {len(found)} mutants, {dict(Counter(found.values()))}")
    assert len(found) >= LEAST
    assert len({mutant.name for mutant in found}) == len(found)
    survivors = {mutant.name for mutant, how in found.items() if how == "survives"}
    assert survivors == {mutant.name for mutant in found} & set(SURVIVORS)
    loose = [mutant.name for mutant, how in found.items() if how == "fails strictly" and not mutant.strict]
    assert loose == [], "a check that is not strict lists them only"
