"""Networks go to processors and come back judged; this machine is one."""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from codeq.quantizer.attach import encode
from export.errors import ExportError
from export.reference.processors import this_processor
from runtime_tests.devices.processor import MissingError, Processor, run_tool
from runtime_tests.devices.run import run_devices, stress_network

HERE = Processor("here", this_processor(), (sys.executable,), {}, "no emulator")
SLOW = Processor("slow", "arm", ("nothing",), {}, "an abacus", macs=1)


@pytest.mark.slow("a network is exported and runs in a process of its own")
def test_this_machine_follows_its_rules() -> None:
    seen: list[tuple[float, str]] = []
    processors = [SLOW, HERE]
    report = run_devices("here", processors, ["stress"], ["onnx"], on_progress=lambda *said: seen.append(said))
    skipped, row = report.rows
    assert skipped.skipped == "too slow in an abacus"
    assert (row.failure, row.off, row.ties, row.argmax) == ("", 0, 0, 0)
    assert row.codes > 10_000
    assert report.ok
    assert "not run" in str(report)
    assert seen[-1][0] == 1.0


@pytest.mark.slow("a network is exported and runs in a process of its own")
def test_patience_runs_what_is_slow_and_not_what_is_missing() -> None:
    missing = Processor("avx512", "x86", (), missing="Bochs cannot be had: no apt-get")
    report = run_devices("here", [missing, replace(HERE, macs=1)], ["stress"], ["onnx"], patient=True)
    skipped, row = report.rows
    assert skipped.skipped == missing.missing
    assert (row.failure, row.off, row.skipped) == ("", 0, "")
    assert "not run on avx512: Bochs cannot be had: no apt-get" in str(report)


@pytest.mark.slow("a network is exported and runs in a process of its own")
def test_a_wrong_rule_and_a_broken_processor_are_failures(tmp_path: Path) -> None:
    broken = Processor("broken", "x86", (sys.executable, "-c", "raise SystemExit('no such instruction')"))
    report = run_devices("here", [broken], ["stress"], ["onnx"])
    assert not report.ok
    assert "no such instruction" in report.rows[0].failure
    assert report.to_dict()["ok"] is False


@pytest.mark.slow("a network is exported")
def test_a_runtime_that_reads_other_files_is_not_asked() -> None:
    other = Processor("other", "wasm", ("nothing",), backends=("tflite",))
    (row,) = run_devices("here", [other], ["stress"], ["onnx"]).rows
    assert row.skipped == "it reads no such file"


def test_codes_of_the_stress_network_reach_both_ends() -> None:
    model, inputs = stress_network()
    for name, encoding in encode(model).items():
        assert (int(encoding.codes.min()), int(encoding.codes.max())) == (-encoding.quant_max, encoding.quant_max), name
        assert encoding.quant_max > 120
        assert float((encoding.codes.abs() == encoding.quant_max).float().mean()) > 0.9
    assert bool(model(inputs).isfinite().all())


def test_a_processor_runs_a_script_of_its_kind(tmp_path: Path) -> None:
    script = tmp_path / "say.py"
    script.write_text("import os, sys\nprint(os.environ['CODEQ_CPU'], sys.argv[1:])\n")
    assert HERE.run(script, [Path("a"), "b"]) == f"{this_processor()} ['a', 'b']\n"
    instead = tmp_path / "other.py"
    instead.write_text("print('other')\n")
    assert Processor("x", "x86", (sys.executable,), script=instead).run(script, []) == "other\n"
    script.write_text("raise SystemExit('\\x1b[31mno')\n")
    with pytest.raises(ExportError, match=r"^here: say\.py ended with 1: [^\x1b]*no$"):
        HERE.run(script, [])


def test_a_missing_tool_is_one_line() -> None:
    with pytest.raises(MissingError, match=r"^an emulator needs nosuchprogram, which is not installed$"):
        run_tool(["nosuchprogram"], "an emulator")
    with pytest.raises(MissingError, match=r"^an emulator cannot be had: .*python.* says no$"):
        run_tool([sys.executable, "-c", "raise SystemExit('no')"], "an emulator")


def test_random_numbers_are_not_those_of_the_caller() -> None:
    first = stress_network()[1]
    torch.manual_seed(7)
    assert np.array_equal(first.numpy(), stress_network()[1].numpy())
