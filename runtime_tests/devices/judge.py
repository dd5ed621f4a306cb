"""Judge what a device computed by the parity contract: its codes by the rules of its kind of processor.

The same as a check here (export/parity/verdict.py, I and F), at one setting, the one in which files are deployed; end
to end, the argmax of an output of two dimensions must be the reference's unless its best two nearly tie.
"""

import hashlib
from dataclasses import replace

import numpy as np
import torch
from torch import nn

from codeq.graph.eval_mode import eval_mode
from export.backend import Backend, StoredFile
from export.errors import ExportError
from export.parity.checks import CodesCheck, OutputCheck
from export.parity.codes import Count, judge_codes
from export.parity.fed import FedComparison, batch_comes_first, fed_errors
from export.parity.held import Held
from export.parity.outputs import compare_output, compare_with_reference
from export.parity.verdict import Verdict
from export.program.program import ReferenceProgram
from export.program.run import in_batches
from export.runner import Runner, run_batches
from runtime_tests.devices.kit import open_probe, probe_bytes
from runtime_tests.devices.recorded_runner import RecordedRunner
from runtime_tests.devices.results import DeviceResults


def judge(
    backend: Backend,
    stored: StoredFile,
    model: nn.Module,
    held: Held,
    program: ReferenceProgram | None,
    results: DeviceResults,
    here: Verdict,
) -> Verdict:
    """Hold what a device computed of a file against its network.

    Args:
        backend: Of the file.
        stored: The file.
        model: Its network.
        held: The inputs that were sent, and the network's answers.
        program: The reference program with the file's grids; None where activations are float.
        results: From the device.
        here: The verdict of this machine, whose weights and comparison of files stay.

    Raises:
        ExportError: The results are of another file or of other inputs.
    """
    probe = open_probe(backend, stored)
    runner = _recorded(probe, probe_bytes(probe), results, f"the probe of {stored.path}")
    assert runner is not None
    runtime, version = results.runtimes[hashlib.sha256(probe_bytes(probe)).hexdigest()]
    plain = backend.open_runner(stored.path)
    plain.open()
    alone = _recorded(plain, stored.path.read_bytes(), results, "")
    setting = results.cpu
    with eval_mode(model), torch.no_grad():
        outputs, codes = _compare(backend, stored, held, program, runner, alone, setting)
    return replace(
        here,
        runtime=f"{runtime} on {setting}",
        runtime_version=version,
        outputs=outputs,
        codes=codes,
        reported=(),
    )


def _recorded(here: Runner, content: bytes, results: DeviceResults, missing: str) -> RecordedRunner | None:
    """Give a runner of what the device computed of a file; None where it had none and may have none."""
    recorded = results.of(hashlib.sha256(content).hexdigest())
    if not recorded and missing:
        raise ExportError(
            f"{results.path}: holds nothing of {missing}; send what `codeq probe-file` writes for this file, and its "
            "inputs"
        )
    return RecordedRunner(here, recorded, str(results.path)) if recorded else None


def _compare(
    backend: Backend,
    stored: StoredFile,
    held: Held,
    program: ReferenceProgram | None,
    probe: RecordedRunner,
    alone: RecordedRunner | None,
    setting: str,
) -> tuple[tuple[OutputCheck, ...], tuple[CodesCheck, ...]]:
    checks: list[OutputCheck] = []
    counts: dict[str, Count] = {}
    if program is None:
        for size in held.batch_sizes:
            found = _run(probe, alone, held, size)
            checks += [
                compare_output(f"output {number}", setting, size, ours, theirs)
                for number, (ours, theirs) in enumerate(zip(held.expected, found, strict=True))
            ]
        return tuple(checks), ()
    kernels = backend.kernels(stored, program)
    reference = backend.reference(program, setting)
    names = tuple(stored.metadata.activations or ())
    comparison = FedComparison(reference, names)
    expected = in_batches(reference.outputs, held.inputs, max(held.batch_sizes))
    stackable = batch_comes_first(program)
    for size in held.batch_sizes:
        judged_at = len(held.inputs[0]) if stackable else size
        _run(probe, alone, held, size)
        found, fed = comparison.run(probe, held.inputs, size, judged_at, counts)
        errors = fed_errors(fed, found)
        checks += [
            compare_with_reference(
                f"output {number}", setting, size, ours, theirs, exact=False, fed_error=errors[number]
            )
            for number, (ours, theirs) in enumerate(zip(expected, found, strict=True))
        ]
    codes = []
    for name, count in counts.items():
        kernel = kernels.get(name, "float")
        codes.append(judge_codes(name, setting, kernel, count, exact=backend.is_exact(kernel)))
    return tuple(checks), tuple(codes)


def _run(probe: RecordedRunner, alone: RecordedRunner | None, held: Held, size: int) -> list[np.ndarray]:
    """Give what the probe computed, and see that the file itself computed the same, where that ran too."""
    found = run_batches(probe, held.inputs, size)
    for one, other in zip(found, run_batches(alone, held.inputs, size) if alone is not None else (), strict=False):
        if not np.array_equal(one, other, equal_nan=one.dtype.kind == "f"):
            raise ExportError(f"{probe.source}: the device computes something else where its tensors are looked at")
    return found
