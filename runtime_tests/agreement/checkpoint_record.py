"""Hold what a file says about its checkpoint to the checkpoint: digest, preprocessing, and where grids come from.

Grids that training learned are in the checkpoint, and those that its own inputs gave are found again. Where others
gave the inputs, there is nothing to compare them with.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch

from codeq.activations.encoding import ActivationEncoding
from codeq.activations.methods import METHODS
from codeq.checkpoint import Checkpoint
from codeq.errors import CodeqError
from codeq.graph.inputs import slice_inputs
from codeq.toolkit.text import printable
from export.backend import StoredFile, backend_of
from export.from_checkpoint import choose_quantization
from export.options import FROM_CHECKPOINT, GIVEN, LEARNED
from export.parity.differences import Difference, Fails
from export.program.describe import describe_machine
from export.program.prepare import prepare_program
from export.rewrite import recorded_request

NEAR = 1e-3
"""Relative, of scales: float sums in another order moved those of models/ by up to 1e-4, and zero points by one."""
MOST_THREADS = 1024


def compare_with_checkpoint(stored: StoredFile, loaded: Checkpoint) -> tuple[list[Difference], list[str]]:
    """Compare what a file records of its checkpoint with the checkpoint.

    Args:
        stored: The file.
        loaded: The checkpoint.

    Returns:
        What differs, and what could not be compared.
    """
    metadata = stored.metadata
    found = []
    if metadata.checkpoint_sha256 != loaded.sha256:
        says = "none" if metadata.checkpoint_sha256 is None else printable(str(metadata.checkpoint_sha256), 80)
        found.append(Difference(f"metadata checkpoint_sha256: found {says}, expected {loaded.sha256}", "strict"))
    if metadata.preprocessing != loaded.preprocessing:
        # A call from Python may leave it out.
        fails: Fails = "always" if metadata.preprocessing else "strict"
        says, wanted = (printable(str(part or "none")) for part in (metadata.preprocessing, loaded.preprocessing))
        found.append(Difference(f"metadata preprocessing: found {says}, expected {wanted}", fails))
    if metadata.labels != loaded.labels:
        found.append(Difference(f"metadata labels: {len(metadata.labels)} that are not the checkpoint's", "strict"))
    if metadata.activations is None:
        return found, []
    differences, note = _compare_grids(stored, metadata.activations, loaded)
    return [*found, *differences], [note] if note else []


def calibrate_again(
    stored: StoredFile, loaded: Checkpoint
) -> tuple[Mapping[str, ActivationEncoding], Mapping[str, str]]:
    """Find the grids of a file again, as its export found them; and the tensors that 8 bits cannot hold.

    Raises:
        CodeqError: There is no such method, or the checkpoint's inputs give no grids.
    """
    metadata = stored.metadata
    ranges = metadata.calibration.get("ranges")
    if ranges not in METHODS:
        raise CodeqError(f"ranges {printable(repr(ranges), 40)}, expected one of {', '.join(METHODS)}")
    asked = {"activations": "int8", "activations_except": metadata.activations_except, "ranges": ranges}
    outputs = recorded_request(backend_of(stored.path), stored).quantize_outputs
    with _threads(metadata.calibration.get("threads")):
        quantization = choose_quantization(loaded, asked, None)
        inputs, _ = loaded.inputs_to_check(stored.fixed_batch or 2)
        example = slice_inputs(inputs, slice(stored.fixed_batch or 2))
        is_open = stored.fixed_batch is None
        prepared = prepare_program(loaded.model, example, quantization, open_batch=is_open, quantize_outputs=outputs)
    assert prepared.program.activations is not None
    return prepared.program.activations.encodings, prepared.program.activations.too_wide


def _compare_grids(
    stored: StoredFile, grids: Mapping[str, ActivationEncoding], loaded: Checkpoint
) -> tuple[list[Difference], str]:
    metadata = stored.metadata
    source = metadata.calibration.get("source")
    if source == LEARNED:
        if loaded.activations is None:
            return [Difference("metadata calibration: grids learned in training, and the checkpoint holds none")], ""
        learned = loaded.activations
        others = [name for name in grids if name not in learned]
        note = f"{len(others)} grids next to layers that were left out are not the checkpoint's: not compared"
        known = {name: grid for name, grid in grids.items() if name in learned}
        return _differing(known, {name: learned[name] for name in known}, "same versions"), note if others else ""
    if source != FROM_CHECKPOINT:
        why = "inputs that were given gave them" if source == GIVEN else "the file does not say what gave them"
        return [], f"grids of activations cannot be found again: {why}"
    try:
        wanted, too_wide = calibrate_again(stored, loaded)
    except CodeqError as error:
        return [Difference(f"metadata calibration: the checkpoint's inputs give no grids: {error}")], ""
    found = _differing(grids, wanted, "strict" if _are_near(grids, wanted) else "same versions")
    if set(metadata.activations_too_wide) != set(too_wide):
        found.append(Difference("metadata activations_too_wide: others than the checkpoint's inputs give"))
    here = describe_machine()["cpu"]
    if found and _are_near(grids, wanted) and metadata.calibration.get("cpu") != here:
        cpu = printable(str(metadata.calibration.get("cpu")), 40)
        return (
            [],
            f"{len(found)} grids differ in their last bits: they were found on {cpu}, and this machine has {here}",
        )
    return found, ""


@contextmanager
def _threads(count: object) -> Iterator[None]:
    """Compute with as many threads as the export did: sums are added in the order of their parts."""
    before = torch.get_num_threads()
    if isinstance(count, int) and 1 <= count <= MOST_THREADS:
        torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _are_near(found: Mapping[str, ActivationEncoding], wanted: Mapping[str, ActivationEncoding]) -> bool:
    return found.keys() == wanted.keys() and all(
        abs(grid.scale / wanted[name].scale - 1) <= NEAR and abs(grid.zero_point - wanted[name].zero_point) <= 1
        for name, grid in found.items()
    )


def _differing(
    found: Mapping[str, ActivationEncoding], wanted: Mapping[str, ActivationEncoding], fails: Fails
) -> list[Difference]:
    differences = []
    for name in dict.fromkeys([*wanted, *found]):
        ours, theirs = found.get(name), wanted.get(name)
        if ours != theirs:
            texts = (
                "none" if grid is None else f"scale {grid.scale!r}, zero point {grid.zero_point}"
                for grid in (ours, theirs)
            )
            differences.append(Difference("grid {}: found {}, expected {}".format(printable(name), *texts), fails))
    return differences
