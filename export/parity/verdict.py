"""A verdict is the parity contract's answer for one file, the same for every runtime.

(W) weights   Every quantized weight that the runtime computes with equals the network's own, bit for bit. Where a
              BatchNorm was folded, it equals the network's times the channel's factor f[c], bit for bit in this form:
              the network's codes (negated where f[c] < 0) times float32(scale * |f[c]|), f computed from the network.
(F) outputs   With float activations every output is within 1e-5 of the output's largest magnitude, at batch sizes 1 and
              3, in every setting of the runtime. Where an output has two dimensions, argmax (axis 1) is the same
              wherever the best two of PyTorch's values are further apart than this bound; of more dimensions it is a
              figure. Infinities, and what a mask sets (magnitudes above 5e8), are in the same places with the same
              sign, and no part of the bound. Integer and boolean outputs are equal. NaN, a missing output, a wrong
              shape or a wrong dtype fails.
(I) codes     With quantized activations, every quantized tensor that the runtime computes, fed what the runtime fed it,
              equals the integer reference: no code differs where the reference follows the kernel bit for bit. Behind
              any other kernel a code may be one step off if the value that was rounded lies within a hundredth of a
              step of the middle between two.
    outputs   Fed the same codes, every float output is within 1e-5 of its largest magnitude.
    settings  Those in which the runtime computes nothing in integers, though the deployed one does, are judged alike,
              reported, and decide nothing: the deployed setting proves the file.
    tensors   Integer biases and grids in the file are the program's, bit for bit: a step of a bias seldom moves a code.
(P) program   Before activations are quantized, the reference program computes what the network does, within 1e-5 of
              the output's largest magnitude.
(S) file      The file is what this package writes for the network, with the options and grids that its metadata
              records. What says nothing about what is computed (versions of packages, order, form, documentation)
              fails where that is asked for (`strict`) and is listed else; so is all else of a file that other versions
              wrote. An export does not write its file twice: `check_parity` and `runtime_tests.parity` do.
(H) approximate  Where a runtime quantizes a layer's float input itself, outputs are only held to be finite and within a
              quarter of their largest magnitude. Weights are held as ever.

PyTorch here is the network itself in eval mode, fake-quantized as in training, not a product of the exporter. What
a backend adds to this, such as a bit for bit end-to-end check, its check says.
"""

from dataclasses import asdict, dataclass
from typing import Any

from codeq.toolkit.table import fold_line, render_table
from export.parity.checks import CodesCheck, LayerKernel, OutputCheck, ReportedComparison, WeightCheck
from export.parity.differences import FileComparison
from export.parity.outputs import APPROXIMATE_TOLERANCE
from export.parity.signal import Signal

SHOWN = 5
"""Differences of a file that are printed; `--json` has all."""


@dataclass(frozen=True)
class Verdict:
    """Says what was held, and whether it did: `ok` is the conjunction of `weights`, `outputs`, `codes`, (P) and (S).

    Attributes:
        runtime, runtime_version: What ran the file, e.g. "onnxruntime".
        inputs: How many it was held with.
        weights: (W).
        outputs: (F), or the outputs of (I).
        codes: (I); empty where activations are float.
        kernels: What every layer became in the runtime; empty where activations are float.
        program_error, program_tolerance: (P); 0 where activations are float.
        reported: Other ways of computing the network, which decide nothing.
        approximate: Outputs were held to (H).
        signal: What 8-bit activations leave of the network; None where activations are float.
        file: (S); None where the file was not written anew.
    """

    runtime: str
    runtime_version: str
    inputs: int
    weights: tuple[WeightCheck, ...]
    outputs: tuple[OutputCheck, ...]
    codes: tuple[CodesCheck, ...] = ()
    kernels: tuple[LayerKernel, ...] = ()
    program_error: float = 0.0
    program_tolerance: float = 0.0
    reported: tuple[ReportedComparison, ...] = ()
    approximate: bool = False
    signal: Signal | None = None
    file: FileComparison | None = None

    @property
    def ok(self) -> bool:
        """Say whether the contract holds."""
        return not self.first_failure

    @property
    def first_failure(self) -> str:
        """Return one line that says what does not hold; empty where everything does."""
        for weight in self.weights:
            if not weight.ok:
                return f"{weight.name}: {weight.reason}"
        if not self.program_error <= self.program_tolerance:
            error, limit = self.program_error, self.program_tolerance
            return f"the reference program is off the network by {error:.3g}, above {limit:.3g}"
        for check in self.codes:
            if check.decides and not check.ok:
                return (
                    f"{check.name} at {check.setting} ({check.kernel}): {check.differing} of {check.elements} codes "
                    f"differ from the integer reference, by up to {check.max_step}"
                )
        for output in self.outputs:
            if output.decides and not output.ok:
                return f"{output.output} at {output.setting}, batch {output.batch_size}: {output.reason}"
        return "" if self.file is None else self.file.first_failure

    @property
    def max_abs_error(self) -> float:
        """Return the largest over the outputs that decide; infinite where one could not be compared."""
        return max((check.max_abs_error for check in self.outputs if check.decides), default=0.0)

    @property
    def tolerance(self) -> float:
        """Return the largest limit of `max_abs_error`."""
        return max((check.tolerance for check in self.outputs if check.decides), default=0.0)

    def differing(self, *, exact: bool) -> int:
        """Count the codes that differ, behind kernels that the reference follows bit for bit or behind the others."""
        return sum(check.differing for check in self.codes if check.exact == exact)

    def elements(self, *, exact: bool) -> int:
        """Count the codes that were compared, likewise."""
        return sum(check.elements for check in self.codes if check.exact == exact)

    @property
    def figures(self) -> str:
        """Say what was measured, in a few words."""
        if self.approximate:
            differences = max((output.argmax_differences for output in self.outputs), default=0)
            share = APPROXIMATE_TOLERANCE * self.max_abs_error / self.tolerance if self.tolerance else 0.0
            return (
                f"approximate (hybrid): outputs off by {self.max_abs_error:.1e}, {share:.2%} of the largest (limit "
                f"{APPROXIMATE_TOLERANCE:.0%}), argmax differs on {differences}"
            )
        if not self.codes:
            return f"max_abs_error {self.max_abs_error:.1e} <= {self.tolerance:.1e} on {self.inputs} inputs"
        exact, others = (f"{self.differing(exact=kind):,} of {self.elements(exact=kind):,}" for kind in (True, False))
        return f"codes differ: {exact}, in float kernels {others}; {self.inputs} inputs"

    @property
    def summary(self) -> str:
        """Say what was held and whether it did, in one line."""
        return f"{self.figures}{'' if self.codes else ', weights bit for bit'}: {_word(self.ok)}"

    def to_dict(self) -> dict[str, Any]:
        """Give the verdict to machines; an infinite error is written as null."""
        values = asdict(self)
        for row in (*values["outputs"], *values["reported"]):
            row.update({key: None for key, value in row.items() if value == float("inf")})
        for row, kernel in zip(values["kernels"], self.kernels, strict=True):
            row["integer"] = kernel.is_integer
        if self.file is None:
            del values["file"]
        else:
            for row, item in zip(values["file"]["differences"], self.file.differences, strict=True):
                row["ok"] = not self.file.is_failure(item)
        return {"ok": self.ok, "first_failure": self.first_failure} | values

    def __str__(self) -> str:
        exact = sum(check.ok for check in self.weights)
        lines = [self._codes_table(), *self._output_lines()] if self.codes else [self._outputs_table()]
        counts = f"{exact} of {len(self.weights)}"
        lines.append(f"weights   {counts} equal PyTorch's bit for bit: {_word(exact == len(self.weights))}")
        if self.file is not None:
            lines += _file_lines(self.file)
        if not self.ok:
            lines.append(fold_line(f"first failure: {self.first_failure}", 2))
        if self.codes or self.approximate:
            lines.append(fold_line(f"outputs   {self.figures}", 10))
        lines.append(f"parity    {self.inputs} inputs, {self.runtime} {self.runtime_version}: {_word(self.ok)}")
        return "\n".join(lines)

    def _outputs_table(self) -> str:
        rows = [
            (
                check.output,
                check.setting,
                str(check.batch_size),
                f"{check.max_abs_error:.1e}",
                f"{check.tolerance:.1e}",
                str(check.argmax_differences),
                _judgement(check),
            )
            for check in self.outputs
        ]
        return render_table(
            ("output", "setting", "batch", "max_abs_error", "tolerance", "argmax differs", "verdict"), rows
        )

    def _codes_table(self) -> str:
        """One row per tensor, one column per setting; the kernel is that of the last setting, the deployed one."""
        settings = list(dict.fromkeys(check.setting for check in self.codes))
        by_name: dict[str, dict[str, CodesCheck]] = {}
        for check in self.codes:
            by_name.setdefault(check.name, {})[check.setting] = check
        rows = [
            (
                name,
                checks[settings[-1]].kernel,
                f"{checks[settings[-1]].elements:,}",
                *(str(checks[setting].differing) for setting in settings),
                _word(all(check.ok for check in checks.values() if check.decides)),
            )
            for name, checks in by_name.items()
        ]
        return render_table(("codes differing in", "kernel", "codes", *settings, "verdict"), rows)

    def _output_lines(self) -> list[str]:
        lines = []
        for check in self.outputs:
            found = (
                f"max_abs_error {check.max_abs_error:.1e} <= {check.tolerance:.1e}"
                if check.differing is None
                else f"{check.differing} elements and {check.argmax_differences} argmax differ"
            )
            where = f"{check.output} at {check.setting}, batch {check.batch_size}"
            lines.append(fold_line(f"{where}: {found}: {_judgement(check)}", 2))
        for item in self.reported:
            error, differs = item.max_abs_error, item.argmax_differences
            lines.append(fold_line(f"reported  {item.name}: max_abs_error {error:.1e}, argmax differs {differs}", 10))
        return lines


def _file_lines(file: FileComparison) -> list[str]:
    """Say how a file differs from what is written for its network, the first differences of many."""
    lines = [fold_line(f"file      {note}", 10) for note in file.notes]
    found = file.differences
    if not found and file.compared:
        lines.append("file      as written anew, byte for byte: ok")
    if found:
        count = "one difference" if len(found) == 1 else f"{len(found):,} differences"
        failed = sum(map(file.is_failure, found))
        word = f"FAILED ({failed:,})" if failed else "listed"
        lines.append(f"file      {count} from what is written for its network: {word}")
        lines += [fold_line(f"  {item.text}", 4) for item in found[:SHOWN]]
        if len(found) > SHOWN:
            lines.append(f"  ... and {len(found) - SHOWN:,} more, in --json")
        if not file.same_versions:
            lines.append(
                fold_line("  other versions of packages wrote it: export it again to hold it byte for byte", 4)
            )
    return lines


class ParityError(Exception):
    """The file and its PyTorch network part ways, so it was not published. `verdict` says where."""

    def __init__(self, verdict: Verdict) -> None:
        super().__init__(f"parity does not hold: {verdict.first_failure}")
        self.verdict = verdict


def _judgement(check: OutputCheck) -> str:
    return _word(check.ok) if check.decides else f"would {'hold' if check.ok else 'fail'}"


def _word(ok: bool) -> str:
    return "ok" if ok else "FAILED"
