"""Every command's `--json` says which version its keys are of. What it would measure is made up here."""

import json
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from codeq.toolkit.report_version import FORMAT_VERSION
from tests.reports import REPORTS
from tests.test_architecture import COMMANDS

MADE_UP = {
    "codeq.advise": ("codeq.compress.advice.advise", "advice", ["--model", "autoencoder"]),
    "codeq.pareto": ("codeq.figures.comparison.compare_runs", "pareto", ["a.jsonl"]),
    "export.inspect": ("export.inspect.inspect_file", "inspect", ["a.onnx"]),
    "export.materialize": ("export.materialize.materialize", "materialize", ["a.onnx"]),
    "runtime_tests.parity": ("runtime_tests.agreement.parity.check_file", "parity with accuracy", ["a.pt", "a.onnx"]),
    "runtime_tests.devices.__main__": ("runtime_tests.devices.run.run_devices", "devices", ["arm"]),
    "runtime_tests.runtimes": (
        "runtime_tests.agreement.runtimes.compare_runtimes",
        "runtimes",
        ["a.pt", "a.onnx", "--runtimes", "onnxruntime"],
    ),
    "runtime_tests.bench.__main__": ("runtime_tests.bench.latency.bench", "bench", ["a.onnx"]),
    "runtime_tests.fuzz.__main__": ("runtime_tests.fuzz.run.fuzz", "fuzz", ["onnx"]),
    "runtime_tests.kills.__main__": ("runtime_tests.kills.run.kill", "kills", []),
    "runtime_tests.zoo": ("runtime_tests.matrix.run.run_matrix", "zoo", ["--threads", "2"]),
    "runtime_tests.compare": ("runtime_tests.bench.four_files.measure_four_files", "compare", ["resnet8"]),
    "runtime_tests.storage": ("runtime_tests.bench.storage.measure_storage", "storage", ["--activations", "float"]),
    "runtime_tests.scaling": ("runtime_tests.bench.scaling.measure_growth", "scaling", ["--threads", "2"]),
    "runtime_tests.tflite_modes": ("runtime_tests.bench.tflite_modes.measure_modes", "tflite_modes", ["resnet8"]),
    "runtime_tests.training_step": ("runtime_tests.bench.training_step.measure_step", "training_step", []),
}
"""By command: the function that does the work, a report of tests/reports.py that it returns here, and arguments."""
IN_RUNS = {
    "codeq.train": "tests/codeq/test_train.py",
    "codeq.compress.__main__": "tests/codeq/compress/test_command.py",
    "codeq.adopt.__main__": "tests/codeq/adopt/test_command.py",
    "export.onnx.__main__": "tests/export/onnx/test_command.py",
    "export.tflite.__main__": "tests/export/tflite/test_command.py",
    "runtime_tests.probe_file": "tests/runtime_tests/test_probe_file.py",
    "runtime_tests.kernel_times": "tests/runtime_tests/bench/test_kernel_times.py",
}
"""Those that these tests run for good."""


def run(name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> tuple[Any, dict[str, Any]]:
    """Run a command whose work is made up; how that was called, and what `--json` wrote."""
    function, report, words = MADE_UP[name]
    asked: dict[str, Any] = {}

    def work(*arguments: Any, **keywords: Any) -> Any:
        asked.update(keywords)
        return REPORTS[report][0]()

    monkeypatch.setattr(function, work)
    monkeypatch.setattr("codeq.checkpoint.load", lambda *arguments: None)
    monkeypatch.setattr("runtime_tests.devices.arm.prepare", lambda folder: [])
    monkeypatch.setattr("export.inspect.backend_of", lambda path: SimpleNamespace(files=lambda path: [path]))
    assert import_module(name).main([*words, "--json", "-"]) == 0
    return asked, json.loads(capsys.readouterr().out)


@pytest.mark.parametrize("name", MADE_UP)
def test_the_version_comes_first(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _, values = run(name, monkeypatch, capsys)
    assert next(iter(values.items())) == ("format_version", FORMAT_VERSION)
    assert len(values) > 1


@pytest.mark.parametrize("name", IN_RUNS)
def test_runs_ask_for_it_too(name: str) -> None:
    text = (Path(__file__).parents[1] / IN_RUNS[name]).read_text()
    assert f'["format_version"] == {FORMAT_VERSION}' in text


def test_every_command_is_held_to_it() -> None:
    assert {*MADE_UP, *IN_RUNS, "codeq_cli"} == set(COMMANDS)


@pytest.mark.parametrize("name", ["runtime_tests.zoo", "runtime_tests.scaling"])
def test_threads_are_handed_on(name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    asked, _ = run(name, monkeypatch, capsys)
    assert asked["threads"] == 2


def test_each_file_of_a_bench_names_its_backend(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _, values = run("runtime_tests.bench.__main__", monkeypatch, capsys)
    assert {file["backend"] for file in values["files"]} == {"onnx"}
