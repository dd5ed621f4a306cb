"""What vela makes of a file, read from its summary; the compiler is made up, as it is no dependency of the tests."""

import importlib.util
import os
from pathlib import Path

import pytest

from export.tflite import ethos_u
from export.tflite.ethos_u import estimate
from export.tflite.options import TfliteRequest

HEADER = "network,sram_memory_used,on_chip_flash_memory_used,off_chip_flash_memory_used,cycles_total"
SUMMARY = f"{HEADER}\nnet,4.75,0.0,12.5,23384\n"
COMPILER = f"""
import sys
from pathlib import Path
assert Path(sys.argv[1]).read_bytes() == b"a file", sys.argv
assert sys.argv[4:] == ["--accelerator-config", "ethos-u55-128"]
Path(sys.argv[3], "model_summary_Ethos_U55.csv").write_text({SUMMARY!r})
print("CPU operators = 2 (11.8%)")
print("NPU operators = 15 (88.2%)")
"""


@pytest.fixture
def vela(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    package = tmp_path / "ethosu" / "vela"
    package.mkdir(parents=True)
    (tmp_path / "ethosu" / "__init__.py").touch()
    (package / "__main__.py").write_text(COMPILER)
    (package / "__init__.py").touch()
    monkeypatch.setattr(ethos_u, "find_spec", importlib.util.find_spec)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]))
    return package


def test_the_summary_is_read(vela: Path) -> None:
    found = estimate(b"a file")
    assert (found.npu_operators, found.cpu_operators, found.cycles) == (15, 2, 23_384)
    assert (found.flash_bytes, found.sram_bytes) == (12_800, 4_864)
    assert str(found) == (
        "15 of 17 operators on ethos-u55-128, 12.8 kB of flash, 4.9 kB of SRAM, 23,384 cycles an input, "
        "as vela estimates"
    )


def test_a_file_that_it_refuses(vela: Path) -> None:
    assert str(estimate(b"another")) == "vela does not take the file; run it by hand for the reason"


def test_without_it_the_report_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ethos_u, "find_spec", lambda name: None)
    assert "pip install '.[ethos-u]'" in str(estimate(b"a file"))


def test_the_target_is_tflite_micro_s() -> None:
    request = TfliteRequest(target="ethos-u")
    assert (request.codes_io, request.form, request.quantize_outputs) == (True, "off", True)
