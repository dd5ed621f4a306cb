"""The parity contract by a file's format: how it is read, held against a network, and run on a test set."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from export.onnx.verify_integer import rebuild_program
from torch import Tensor, nn

from export.errors import ExportError
from export.metadata import FileMetadata, read_metadata
from export.onnx.sessions import load_model
from export.onnx.verify import PROGRESS_STEPS, Verdict
from export.onnx.verify import check_parity as check_onnx
from export.program.run import in_batches, run_network
from export.reference.machine import IntegerReference
from export.reference.onnxruntime import ONNXRUNTIME
from export.reference.xnnpack import XNNPACK
from export.tflite.options import batch_sizes
from export.tflite.stored_file import StoredFile, check_grids, is_tflite, read_file, rebuild
from export.tflite.verify import TfliteVerdict
from export.tflite.verify import check_parity as check_tflite
from runtime_tests.agreement.accuracy import Run
from runtime_tests.runners import Runner, open_runner, run_batches, runtimes_for

OnProgress = Callable[[int, str], None]
ACCURACY_BATCH_SIZE = 100


@dataclass(frozen=True, eq=False)
class Contract:
    """One file, read. `stored` is what a .tflite file holds, None for an ONNX file."""

    path: Path
    metadata: FileMetadata
    stored: StoredFile | None

    @property
    def runtime(self) -> str:
        """The runtime that the file was made for."""
        return runtimes_for(self.path)[0]

    def hold(
        self, model: nn.Module, inputs: Tensor, on_progress: OnProgress
    ) -> tuple[Verdict | TfliteVerdict, IntegerReference | None]:
        """Hold the file against a network.

        Args:
            model: The network that it should have been made from.
            inputs: To check with.
            on_progress: Called with the share done, of PROGRESS_STEPS, and what was just finished.

        Returns:
            The verdict, and the integer reference where activations are quantized.

        Raises:
            ExportError: The file does not open, is damaged, or does not take these inputs.
        """
        if self.stored is None:
            program = None
            if self.metadata.activations is not None:
                program = rebuild_program(model, (inputs,), self.metadata)
            verdict = check_onnx(self.path, model, inputs, program=program, on_progress=on_progress)
            return verdict, None if program is None else IntegerReference(program, ONNXRUNTIME)
        check_inputs(open_runner(self.path), self.path, inputs)
        prepared, build = rebuild(self.stored, model, (inputs,))
        on_progress(PROGRESS_STEPS // 4, "reference program")
        held = check_tflite(self.path, model, prepared, build, batch_sizes(self.stored.backend))
        held = replace(held, weights=held.weights + check_grids(self.stored))
        on_progress(PROGRESS_STEPS, "")
        return held, IntegerReference(prepared.program, XNNPACK) if held.layers else None

    def runs(self, model: nn.Module, reference: IntegerReference | None) -> tuple[dict[str, Run], int]:
        """What to compare the accuracy of, by name, and the batch size for all of them."""
        runner = open_runner(self.path)
        fixed = runner.inputs[0].shape[0]
        size = fixed if isinstance(fixed, int) else ACCURACY_BATCH_SIZE
        runs: dict[str, Run] = {
            "pytorch": lambda inputs: run_network(model, (inputs,), size),
            self.runtime: lambda inputs: run_batches(runner, (inputs,), size),
        }
        if reference is not None:
            runs["integer_reference"] = lambda inputs: in_batches(reference.outputs, (inputs,), size)
        return runs, size


def read_contract(path: Path) -> Contract:
    """Read a file of ours, by its format.

    Raises:
        ExportError: Missing, not one of ours, or damaged.
    """
    if is_tflite(path):
        stored = read_file(path)
        return Contract(path, stored.metadata, stored)
    return Contract(path, read_metadata(load_model(path), path), None)


def check_inputs(runner: Runner, path: Path, *inputs: Tensor) -> None:
    """See that a file takes such inputs.

    Raises:
        ExportError: It is the file of another network.
    """
    if len(runner.inputs) != len(inputs):
        raise ExportError(f"{path}: takes {len(runner.inputs)} inputs, found {len(inputs)}")
    for slot, tensor in zip(runner.inputs, inputs, strict=True):
        found: tuple[Any, ...] = tuple(tensor.shape)
        if slot.at_batch(found[0])[1:] != found[1:] or np.dtype(slot.dtype) != tensor.numpy().dtype:
            raise ExportError(
                f"{path}: input {slot.name!r} takes {slot.dtype} {['N' if s is None else s for s in slot.shape]}, "
                f"found {list(found)}; is it the file of another network?"
            )
