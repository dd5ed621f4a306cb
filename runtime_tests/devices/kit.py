"""Write what goes to a device: a copy of the file that shows all its codes, inputs, and the script that runs them.

probe.onnx   the file, its quantized tensors behind its outputs
probe.npz    inputs in batches, as the runtime takes them
probe.py     on_device.py, which needs NumPy and a runtime alone
"""

import hashlib
import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from codeq.graph.eval_mode import eval_mode
from codeq.graph.inputs import Inputs
from codeq.toolkit.files import check_writable, staging_folder
from codeq.toolkit.report_version import FORMAT_VERSION
from codeq.toolkit.table import fold_line, format_bytes, format_count
from export.backend import Backend, StoredFile
from export.errors import ExportError
from export.parity.codes import Count
from export.parity.fed import FedComparison, batch_comes_first
from export.parity.held import Held, hold_inputs
from export.program.run import batches
from export.runner import Runner
from export.stored_program import stored_program
from runtime_tests.devices.recorded_runner import list_of

SCRIPT = Path(__file__).with_name("on_device.py")
EXPECTED = "expected."
"""Before the names of arrays that a device is to compute."""


@dataclass(frozen=True)
class KitReport:
    """Says what was written for a device. `print(report)` shows what to do with it.

    Attributes:
        file: What is to be proved.
        probe, inputs, script: What was written.
        codes: Tensors that the probe shows.
        count: Inputs.
        batches: Into which they were put.
        sizes: Bytes of the probe and of the inputs.
        command: To run where the checkpoint is, when the results are back.
        cpu: The one kind of processor that the file is meant for; None where it is not.
        expected: The kind of processor whose outputs and codes were written too; None where none were.
    """

    file: Path
    probe: Path
    inputs: Path
    script: Path
    codes: int
    count: int
    batches: int
    sizes: tuple[int, int]
    command: str
    cpu: str | None = None
    expected: str | None = None

    @property
    def results(self) -> Path:
        """Name a file for the results."""
        return self.probe.with_name(f"{self.probe.stem}-results.npz")

    @property
    def device_command(self) -> str:
        """Say what to run on the device."""
        names = (self.script.name, self.inputs.name, self.results.name, self.probe.name)
        return f"{f'CODEQ_CPU={self.cpu} ' if self.cpu else ''}python3 {' '.join(names)}"

    def to_dict(self) -> dict[str, Any]:
        """Give everything with plain types."""
        paths = {name: str(getattr(self, name)) for name in ("file", "probe", "inputs", "script", "results")}
        counts = {name: getattr(self, name) for name in ("codes", "count", "batches", "command", "expected")}
        counts["device_command"] = self.device_command
        return {"format_version": FORMAT_VERSION} | paths | counts

    def __str__(self) -> str:
        shown = f"{format_count(self.codes, 'tensor')} of codes behind its outputs" if self.codes else "as it is"
        probe, inputs = map(format_bytes, self.sizes)
        lines = [
            f"{self.probe}  {self.file.name}, {shown}, {probe}",
            f"{self.inputs}  {format_count(self.count, 'input')} in {self.batches} batches, {inputs}"
            + (f", with the codes that {self.expected} is to compute" if self.expected else ""),
            f"{self.script}  needs NumPy and the runtime alone",
            f"there  {self.device_command}",
            f"here   {self.command}",
        ]
        return "\n".join(fold_line(line, 7) for line in lines)


def batch_of(stored: StoredFile) -> int | None:
    """Give the one batch size that a device is sent; None where all of the contract are."""
    chosen: int | None = stored.metadata.options.get("batch")
    return stored.fixed_batch or chosen


def open_probe(backend: Backend, stored: StoredFile) -> Runner:
    """Open the copy of a file that shows its codes.

    Raises:
        ExportError: The runtime refuses it, or what it keeps for the next call would have to be sent with it.
    """
    if stored.metadata.state:
        raise ExportError(f"{stored.path}: keeps state from call to call, which no probe carries to a device")
    if len(backend.files(stored.path)) > 1:
        raise ExportError(f"{stored.path}: keeps weights in a file beside it; export it without for a probe")
    runner = backend.open_runner(stored.path, look_at=tuple(stored.metadata.activations or ()))
    runner.open()
    return runner


def probe_bytes(probe: Runner) -> bytes:
    """Give the content of the copy."""
    return probe.content.read_bytes() if isinstance(probe.content, Path) else probe.content


def write_kit(
    backend: Backend,
    stored: StoredFile,
    model: nn.Module,
    inputs: Inputs,
    output: Path,
    *,
    checkpoint: Path,
    data: str | None = None,
    expect: str | None = None,
    force: bool = False,
) -> KitReport:
    """Write a kit.

    Args:
        backend: Of the file.
        stored: The file.
        model: Its network.
        inputs: To be run on the device, batch first.
        output: Where the probe goes; inputs and script go beside it.
        checkpoint: For the command that is shown.
        data: Where the inputs are from, likewise; None is the checkpoint.
        expect: A kind of processor, one of `names.KINDS`: what it is to compute is written beside the inputs, so that
            the device can say by itself whether its codes are equal.
        force: Overwrite.

    Raises:
        ExportError: As for `open_probe`; the output has not the file's suffix; or nothing can be expected: the file
            has no codes, or those of this machine are not those of the other kind.
        OutputError: A file exists, or cannot be written.
    """
    if output.suffix != backend.suffix:
        raise ExportError(f"{output}: is to be {backend.file}, expected a name that ends in {backend.suffix}")
    paths = output, output.with_suffix(".npz"), output.with_suffix(".py")
    for path in paths:
        if path.resolve() == stored.path.resolve():
            raise ExportError(f"{path}: is the file itself; name another output with -o")
        check_writable(path, force=force)
    probe = open_probe(backend, stored)
    held = hold_inputs(model, inputs, fixed_batch=batch_of(stored))
    if expect is not None:
        _check_expected(backend, stored, model, held, probe, expect)
    parts = [batch for size in held.batch_sizes for batch in batches(held.inputs, size)]
    arrays: dict[str, np.ndarray] = {}
    for number, batch in enumerate(parts):
        prepared = probe.prepare(list(map(_plain, batch)))
        arrays |= {f"{number:05d}.{place}": array for place, array in enumerate(list_of(prepared))}
        if expect is not None:
            found = enumerate(probe.run(prepared))
            arrays |= {f"{EXPECTED}{number:05d}.{place}": array for place, array in found}
    shown = len(stored.metadata.activations or ())
    outputs = {stored.path.read_bytes(): len(held.expected), probe_bytes(probe): len(held.expected) + shown}
    counts = {hashlib.sha256(content).hexdigest(): count for content, count in outputs.items()}
    about: dict[str, Any] = {
        "count": held.count,
        "data": data,
        "outputs": counts,
        "expected": expect,
        "plain": len(held.expected),
    }
    about |= {"preprocessing": stored.metadata.preprocessing, "session_options": stored.metadata.session_options or {}}
    with staging_folder(output, replace=force) as folder:
        staged = [folder / path.name for path in paths]
        staged[0].write_bytes(probe_bytes(probe))
        np.savez_compressed(staged[1], about=np.array(json.dumps(about)), **arrays)  # type: ignore[arg-type]
        shutil.copyfile(SCRIPT, staged[2])
    words = ["python -m runtime_tests.parity", str(checkpoint), str(stored.path)]
    words += ["--data", data] if data is not None else []
    words += ["--device-results", f"{output.stem}-results.npz"]
    return KitReport(
        stored.path,
        *paths,
        codes=shown,
        count=held.count,
        batches=len(parts),
        sizes=(output.stat().st_size, paths[1].stat().st_size),
        command=" ".join(words),
        cpu=stored.cpu,
        expected=expect,
    )


def _check_expected(
    backend: Backend, stored: StoredFile, model: nn.Module, held: Held, probe: Runner, cpu: str
) -> None:
    """Prove that the codes computed here are those that another kind of processor computes.

    Its reference is fed the codes of this machine. If it computes the same at every layer, then so does the processor
    from the inputs on.
    """
    if stored.cpu is not None:
        raise ExportError(
            f"{stored.path}: is for {stored.cpu}, whose codes this machine does not compute; leave --expect out, and "
            "judge what comes back with parity --device-results"
        )
    program = stored_program(stored, model, held.inputs)
    if program is None:
        raise ExportError(f"{stored.path}: has no codes to expect, since its activations are float")
    counts: dict[str, Count] = {}
    comparison = FedComparison(backend.reference(program, cpu), tuple(stored.metadata.activations or ()))
    stackable = batch_comes_first(program)
    with eval_mode(model), torch.no_grad():
        for size in held.batch_sizes:
            comparison.run(probe, held.inputs, size, len(held.inputs[0]) if stackable else size, counts)
    off = [(name, count.differing) for name, count in counts.items() if count.differing]
    if off:
        raise ExportError(
            f"{stored.path}: {cpu} rounds {sum(number for _, number in off)} codes of these inputs otherwise than this "
            f"machine, the first in {off[0][0]!r}; take other inputs (--data, --count)"
        )


def _plain(tensor: Tensor) -> np.ndarray:
    array: np.ndarray = tensor.detach().contiguous().numpy()
    return array
