"""A third backend needs this file and nothing else: the reference program as a .npz, run by PyTorch.

It is what docs/adding_a_backend.md describes, small enough to read. Export, parity, benchmarks, inspection and reports
reach it through its entry in `BACKENDS`.
"""

import io
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import codeq
import codeq_cli
from codeq.checkpoint import Checkpoint
from codeq.graph.nodes import GraphRunner, input_names
from export import ExportError, ParityError, check_parity
from export.backend import BACKENDS, OnProgress, StoredWeight, Written, backend_of, get_backend
from export.input_slot import InputSlot
from export.metadata import KEY, FileMetadata, parse_metadata, with_mismatch
from export.options import ExportRequest, Quantization
from export.parity.checks import LayerKernel, WeightCheck
from export.parity.codes import Count, judge_codes
from export.parity.differences import Packaging, describe_metadata
from export.parity.fed import FedComparison
from export.parity.held import Held
from export.parity.outputs import compare_output, compare_program
from export.parity.verdict import Verdict
from export.parity.weights import check_weights, compare_weight, expected_weight
from export.program.describe import describe_program
from export.program.names import codes_name, scope_name
from export.program.prepare import Prepared
from export.program.program import ReferenceProgram
from export.publish import publish
from export.reference.machine import IntegerReference
from export.reference.onnxruntime import ONNXRUNTIME
from export.report import Report
from export.runner import run_batches

VERSION = "1"


@dataclass(frozen=True)
class NpzDetails:
    arrays: int

    def to_dict(self) -> dict[str, Any]:
        return {"arrays": self.arrays}

    def remarks(self, report: Report) -> Sequence[tuple[str, str]]:
        return [("arrays", str(self.arrays))]

    def smaller(self, report: Report) -> Mapping[str, str]:
        return {}


@dataclass(frozen=True, eq=False)
class NpzFile:
    path: Path
    arrays: Mapping[str, np.ndarray]
    metadata: FileMetadata
    fixed_batch: int | None = None
    cpu: str | None = None
    approximate: bool = False


@dataclass(frozen=True)
class NpzInspection:
    path: Path
    weights: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        return {"path": str(self.path), "weights": list(self.weights)}

    def __str__(self) -> str:
        return f"{self.path}: {len(self.weights)} weights"


class _Watched(GraphRunner):
    """Keeps the codes of quantized activations on their way."""

    codes: dict[str, torch.Tensor]

    def compute_node(self, n: Any) -> Any:
        value = super().compute_node(n)
        if n.target is torch.ops.codeq.quantize.default:
            self.codes[scope_name(n)] = value
        return value


class NpzRunner:
    runtime, version, note = "PyTorch", VERSION, ""
    inputs: tuple[InputSlot, ...] = ()

    def __init__(self, path: Path, look_at: Sequence[str] = ()) -> None:
        self.stored, self.look_at = read(path), look_at

    def open(self) -> None:
        self.exported = torch.export.load(io.BytesIO(self.stored.arrays["program"].tobytes()))
        for node, meta in zip(self.exported.graph.nodes, json.loads(str(self.stored.arrays["names"])), strict=True):
            node.meta.update(meta)
        nodes = [node for node in self.exported.graph.nodes if "input_name" in node.meta]
        self.inputs = tuple(
            InputSlot(node.meta["input_name"], (None, *map(int, node.meta["val"].shape[1:])), np.dtype(np.float32))
            for node in nodes
        )

    def prepare(self, arrays: Sequence[np.ndarray]) -> tuple[torch.Tensor, ...]:
        return tuple(map(torch.from_numpy, arrays))

    def run(self, prepared: tuple[torch.Tensor, ...]) -> list[np.ndarray]:
        runner = _Watched(self.exported)
        runner.codes = {}
        with torch.no_grad():
            outputs = runner.compute(prepared)
        return [value.numpy() for value in (*outputs, *(runner.codes[name] for name in self.look_at))]

    def finish(self, outputs: list[np.ndarray]) -> list[np.ndarray]:
        return outputs


def read(path: Path) -> NpzFile:
    if not path.is_file():
        raise ExportError(f"{path}: no such file")
    with np.load(path) as content:
        arrays = dict(content)
    return NpzFile(path, arrays, parse_metadata(str(arrays["metadata"]), path))


class NpzBackend:
    name, suffix, file, runtime, package = "npz", ".npz", "a .npz file", "NumPy", "numpy"
    request = ExportRequest
    variants: Mapping[str, Mapping[str, Any]] = {"plain": {}}

    def require(self) -> None: ...

    def recognizes(self, path: Path) -> bool:
        return path.suffix == self.suffix

    def write(self, prepared: Prepared, request: ExportRequest, staged: Path) -> Written:
        program = prepared.program
        names = {record.name: record.name for record in program.weights.values()}
        metadata = describe_program(program, request, names, versions={}, storage="dense", target="npz")
        content = io.BytesIO()
        kept = [
            {key: node.meta[key] for key in ("input_name", "output_names", "constant") if key in node.meta}
            | ({"nn_module_stack": {"codeq": list(node.meta["nn_module_stack"]["codeq"])}} if scope_name(node) else {})
            for node in program.exported.graph.nodes
        ]
        torch.export.save(program.exported, content)
        arrays: dict[str, Any] = {"metadata": metadata[KEY], "names": json.dumps(kept)}
        arrays["program"] = np.frombuffer(content.getvalue(), np.uint8)
        weights = {}
        for record in program.weights.values():
            encoding = record.encoding
            arrays[codes_name(record.name)] = encoding.codes.numpy()
            arrays[f"{record.name}_scale"] = encoding.along_axis(encoding.scale).numpy()
            weights[record.name] = StoredWeight("int8", "", encoding.codes.numel(), "codes * scale")
        with staged.open("wb") as target:
            np.savez(target, **arrays)
        return Written(weights, lambda size_bytes: NpzDetails(len(arrays)))

    def read(self, path: Path) -> NpzFile:
        return read(path)

    def incomparable(self, stored: NpzFile) -> str:
        return ""

    def recorded_options(self, stored: NpzFile) -> Mapping[str, Any]:
        return {}

    def content(self, stored: NpzFile) -> Any:
        arrays: dict[str, Any] = dict(stored.arrays)
        texts = {key: Packaging(arrays.pop(key)) for key in ("program", "names")}  # with the order of torch's own keys
        return {**arrays, **texts, "metadata": describe_metadata(str(arrays["metadata"]))}

    def record_mismatch(self, path: Path, failure: str) -> None:
        arrays = dict(read(path).arrays)
        np.savez(path, **arrays | {"metadata": np.array(with_mismatch(str(arrays["metadata"]), failure))})

    def check(
        self, stored: NpzFile, model: nn.Module, held: Held, program: ReferenceProgram | None, on_progress: OnProgress
    ) -> Verdict:
        weights = self._weights(stored, model)
        if program is not None:
            return self._codes(stored, held, program, weights)
        runner = self.open_runner(stored.path)
        runner.open()
        outputs = [
            compare_output(f"output_{index}", "eager", size, ours, theirs)
            for size in held.batch_sizes
            for index, (ours, theirs) in enumerate(
                zip(held.expected, run_batches(runner, held.inputs, size), strict=True)
            )
        ]
        on_progress(1.0, "")
        return Verdict(self.runtime, VERSION, held.count, weights, tuple(outputs))

    def _weights(self, stored: NpzFile, model: nn.Module) -> tuple[WeightCheck, ...]:
        def judge(quantized: Any, about: Any) -> str:
            wanted = expected_weight(model, quantized, about)
            found = stored.arrays[codes_name(about.name)].astype(np.float32) * stored.arrays[f"{about.name}_scale"]
            return wanted if isinstance(wanted, str) else compare_weight(wanted, found)

        return check_weights(model, stored.metadata.weights, judge)

    def _codes(
        self, stored: NpzFile, held: Held, program: ReferenceProgram, weights: tuple[WeightCheck, ...]
    ) -> Verdict:
        assert program.activations is not None
        names = tuple(program.activations.encodings)
        comparison = FedComparison(self.reference(program), names)
        probe = self.open_runner(stored.path, look_at=names)
        probe.open()
        counts: dict[str, Count] = {}
        outputs = []
        for size in held.batch_sizes:
            found, fed = comparison.run(probe, held.inputs, size, size, counts)
            outputs += [compare_output("output", "eager", size, a, b) for a, b in zip(fed, found, strict=True)]
        # PyTorch computes between quantizers in float: every kernel is held to the bound of ties.
        codes = [judge_codes(name, "eager", "float", count, exact=False) for name, count in counts.items()]
        layers = [LayerKernel(i.name, i.operator, "float", "PyTorch") for i in program.activations.layers]
        error = compare_program(program.activations.float_outputs, held.expected)
        return Verdict(self.runtime, VERSION, held.count, weights, tuple(outputs), tuple(codes), tuple(layers), *error)

    def reference(self, program: ReferenceProgram, cpu: str | None = None) -> IntegerReference:
        return IntegerReference(program, ONNXRUNTIME)

    def kernels(self, stored: NpzFile, program: ReferenceProgram) -> Mapping[str, str]:
        return {}

    def is_exact(self, kernel: str) -> bool:
        return False

    def open_runner(self, path: Path, *, threads: int | None = None, look_at: Sequence[str] = ()) -> NpzRunner:
        return NpzRunner(path, look_at)

    def preload(self) -> None: ...

    def try_out(self, path: Path, run: Callable[[Any], object], *, threads: int | None = None) -> None: ...

    def trust(self, path: Path) -> None: ...

    def files(self, path: Path) -> list[Path]:
        return [path]

    def inspect(self, path: Path) -> NpzInspection:
        return NpzInspection(path, tuple(weight.name for weight in read(path).metadata.weights))

    def materialize(self, source: Path, target: Path, *, force: bool) -> Any:
        raise ExportError(f"{source}: is dense already")


NPZ = NpzBackend()


@pytest.fixture(autouse=True)
def backend() -> Iterator[NpzBackend]:
    BACKENDS["npz"] = f"{__name__}:NPZ"
    yield NPZ
    del BACKENDS["npz"]


@pytest.fixture(scope="module")
def loaded(checkpoint_path: Path) -> Checkpoint:
    return codeq.load(checkpoint_path)


def export(loaded: Checkpoint, path: Path, **quantization: Any) -> Report:
    inputs = loaded.held_inputs
    assert inputs is not None
    request = ExportRequest(quantization=Quantization(calibration=inputs, **quantization), check_inputs=(inputs,))
    return publish(NPZ, loaded.model, (inputs[:2],), path, request)  # type: ignore[arg-type]


@pytest.mark.parametrize("activations", ["float32", "int8"])
def test_an_export_is_held_and_reported(loaded: Checkpoint, tmp_path: Path, activations: str) -> None:
    report = export(loaded, tmp_path / "net.npz", activations=activations)
    assert report.verdict.ok, report.verdict
    assert all(check.ok for check in report.verdict.weights)
    assert bool(report.verdict.codes) == (activations == "int8")
    values = json.loads(json.dumps(report.to_dict(), allow_nan=False))
    assert (values["backend"], values["format_version"], values["details"]) == ("npz", 1, {"arrays": 23})
    assert values["parity"]["runtime"] == "NumPy"
    assert "arrays                23" in str(report)
    assert len(report.weights) == 10


def test_a_changed_code_is_seen(loaded: Checkpoint, tmp_path: Path) -> None:
    path = tmp_path / "net.npz"
    export(loaded, path)
    arrays = dict(read(path).arrays)
    arrays["fc.weight_quantized"] = arrays["fc.weight_quantized"].copy()
    arrays["fc.weight_quantized"].flat[0] += 1
    np.savez(path, **arrays)
    assert loaded.held_inputs is not None
    verdict = check_parity(path, loaded.model, loaded.held_inputs)
    assert "fc.weight: 1 of" in verdict.first_failure
    assert verdict.file is not None
    failing = [item.text for item in verdict.file.differences if verdict.file.is_failure(item)]
    assert len(failing) == 1
    size = arrays["fc.weight_quantized"].size
    assert failing[0].startswith(f"fc.weight_quantized: 1 of {size} differ, the first at 0: found ")


@pytest.mark.slow("three exports")
def test_a_file_that_does_not_hold_is_not_published(
    loaded: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(NpzRunner, "finish", lambda self, outputs: [outputs[0] + 1, *outputs[1:]])
    with pytest.raises(ParityError, match="max_abs_error 1 above"):
        export(loaded, tmp_path / "net.npz")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow("five commands")
@pytest.mark.full
def test_the_commands_know_it(
    checkpoint_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from export.inspect import main as inspect_main
    from runtime_tests.bench.__main__ import main as bench_main
    from runtime_tests.parity import main as parity_main
    from runtime_tests.runtimes import main as runtimes_main

    path = tmp_path / "net.npz"
    backend: Any = get_backend("npz")
    inputs = tmp_path / "inputs.npz"
    np.savez(inputs, x=np.random.default_rng(0).standard_normal((4, 1, 8, 8)).astype(np.float32))
    words = [str(checkpoint_path), "-o", str(path), "--calibration", str(inputs), "--json", "-"]
    assert codeq_cli.main(["export", "npz", *words]) == 0
    assert json.loads(capsys.readouterr().out)["activations"]["tensors"] == 14
    assert backend_of(path) is backend

    assert parity_main([str(checkpoint_path), str(path), "--json", "-"]) == 0
    verdict = json.loads(capsys.readouterr().out)
    assert (verdict["backend"], verdict["ok"], verdict["format_version"]) == ("npz", True, 1)

    assert bench_main([str(path), "--seconds", "0", "--json", "-"]) == 0
    (measured,) = json.loads(capsys.readouterr().out)["files"]
    assert (measured["backend"], measured["size_bytes"]) == ("npz", path.stat().st_size)

    assert inspect_main([str(path)]) == 0
    assert capsys.readouterr().out == f"{path}: 10 weights\n"

    assert runtimes_main([str(checkpoint_path), str(path), "--count", "3", "--runtimes", "numpy"]) == 0
    assert "net.npz" in capsys.readouterr().out


@pytest.mark.full
def test_the_zoo_has_its_files(tmp_path: Path) -> None:
    from runtime_tests.matrix.zoo_file import all_kinds, export_zoo_file
    from runtime_tests.networks import zoo_network

    (kind,) = [kind for kind in all_kinds() if kind.backend.name == "npz"]
    model, inputs = zoo_network("autoencoder", {"in_features": 16})
    for activations in ("float32", "int8"):
        file = export_zoo_file("autoencoder", model, inputs[:6], tmp_path, activations, kind)  # type: ignore[arg-type]
        assert (file.failure, file.refused, file.variant) == ("", "", "plain")
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "autoencoder-int8-plain.npz",
        "autoencoder-weight-only-plain.npz",
    ]


def test_inputs_have_the_networks_names(loaded: Checkpoint, tmp_path: Path) -> None:
    export(loaded, tmp_path / "net.npz")
    runner = NpzRunner(tmp_path / "net.npz")
    runner.open()
    assert tuple(slot.name for slot in runner.inputs) == input_names(runner.exported) == ("input",)
