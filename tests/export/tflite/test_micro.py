"""Files for TFLite Micro: codes from input to output, what it cannot run is refused, C++ source of the same bytes."""

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import codeq
from export.errors import ExportError
from export.publish import check_parity

pytest.importorskip("ai_edge_litert", reason="LiteRT is an extra: pip install '.[tflite]'")

from export.tflite import export_tflite, micro
from export.tflite.c_array import method
from export.tflite.micro import OPERATORS, arena_of
from export.tflite.stored_file import read_file

pytestmark = pytest.mark.slow("files are exported")


def network(*last: nn.Module) -> nn.Module:
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5)]
    model = nn.Sequential(*layers, *last)
    codeq.attach(model, 8, granularity="channel")
    codeq.freeze(model)
    return model.eval()


def inputs() -> torch.Tensor:
    return torch.randn(12, 3, 8, 8, generator=torch.Generator().manual_seed(1))


def test_everything_is_codes(tmp_path: Path) -> None:
    model, x, path = network(), inputs(), tmp_path / "net.tflite"
    report = export_tflite(model, (x[:2],), path, check_inputs=(x,), activations="int8", calibration=x, target="tflm")
    assert report.verdict.ok
    assert all(kernel.is_integer for kernel in report.kernels)
    assert report.kernels[-1].kernel == "FULLY_CONNECTED"
    assert set(report.details.operators) <= OPERATORS
    assert "DEQUANTIZE" not in report.details.operators
    stored = read_file(path)
    assert stored.codes_io
    assert stored.cpu == "tflm"
    assert stored.metadata.storage == "off"
    assert "4" in (stored.metadata.activations or {})  # the output of the last layer has a grid
    verdict = check_parity(path, model, (x,), strict=True)
    assert verdict.ok, verdict
    float_report = export_tflite(
        model, (x[:2],), tmp_path / "usual.tflite", check_inputs=(x,), activations="int8", calibration=x, io="int8"
    )
    assert not all(kernel.is_integer for kernel in float_report.kernels)  # as ever: the last result stays float
    assert read_file(tmp_path / "usual.tflite").cpu is None


def test_what_it_cannot_run_is_refused(tmp_path: Path) -> None:
    x = inputs()
    cases = [
        (network(nn.GELU()), {}, r"^--target tflm: TFLite Micro has no GELU; leave --target out for LiteRT"),
        (network(nn.GELU()), {"target": "ethos-u"}, r"^--target ethos-u: TFLite Micro has no GELU"),
        (network(), {"activations_except": ["4"]}, r"^--target tflm: 4\.weight would be computed in float"),
        (network(), {"activations": "float32"}, "found --activations float32; use --activations int8"),
        (network(), {"int4": True}, "found --int4; leave it out"),
        (network(), {"target": "litert", "c_array": True}, "--c-array is for microcontrollers; add --target tflm"),
        (network(), {"target": "esp32"}, "esp32"),
        (network(), {"backend": "litert-torch", "activations": "float32"}, "--target tflm"),
    ]
    for model, changes, message in cases:
        options = {"activations": "int8", "calibration": x, "target": "tflm", "check_inputs": (x,), **changes}
        with pytest.raises(ExportError, match=message) as caught:
            export_tflite(model, (x[:2],), tmp_path / "net.tflite", **options)  # type: ignore[arg-type]
        assert "\n" not in str(caught.value)
        assert not list(tmp_path.iterdir())


def test_the_array_is_the_file(tmp_path: Path) -> None:
    x, path = inputs(), tmp_path / "my-net.tflite"
    export_tflite(
        network(), (x[:2],), path, check_inputs=(x,), activations="int8", calibration=x, target="tflm", c_array=True
    )
    assert sorted(item.name for item in tmp_path.iterdir()) == ["my-net.cc", "my-net.h", "my-net.tflite"]
    header = (tmp_path / "my-net.h").read_text()
    grid = (read_file(path).metadata.activations or {})["input"]
    assert f"my_net_input0_zero_point = {grid.zero_point - 128};" in header
    assert np.float32(header.partition("input0_scale = ")[2].partition("f;")[0]) == np.float32(grid.scale)
    compiler = shutil.which("g++")
    if compiler is None:
        pytest.skip("no C++ compiler")
    registered = sorted(set(header.split("resolver.")[1:]))
    methods = "".join(f"void {line.partition('(')[0]}() {{ ++count; }}\n" for line in registered)
    main = f'#include "my-net.h"\n#include <cstdio>\nstruct R {{ int count = 0;\n{methods}}};\n'
    main += "int main() { R r; my_net_register(r); if (r.count != (int)my_net_operators) return 1;"
    main += " return fwrite(my_net_data, 1, my_net_size, stdout) != my_net_size; }\n"
    (tmp_path / "main.cc").write_text(main)
    words = [compiler, "-std=c++17", "-Wall", "-Werror", "main.cc", "my-net.cc", "-o", "main"]
    subprocess.run(words, cwd=tmp_path, check=True)
    done = subprocess.run([tmp_path / "main"], capture_output=True, check=True)
    assert done.stdout == path.read_bytes()


def test_operators_have_the_names_of_the_resolver() -> None:
    expected = {
        "CONV_2D": "AddConv2D",
        "DEPTHWISE_CONV_2D": "AddDepthwiseConv2D",
        "FULLY_CONNECTED": "AddFullyConnected",
        "L2_POOL_2D": "AddL2Pool2D",
        "PADV2": "AddPadV2",
        "SELECT_V2": "AddSelectV2",
        "RELU6": "AddRelu6",
        "CUMSUM": "AddCumSum",
        "BATCH_TO_SPACE_ND": "AddBatchToSpaceNd",
    }
    assert {name: method(name) for name in expected} == expected


def test_the_interpreter_says_what_memory_it_needs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(micro, "find_spec", lambda name: None)
    assert "pip install '.[tflm]'" in arena_of(b"").note
    monkeypatch.setattr(micro, "find_spec", importlib.util.find_spec)
    package = tmp_path / "tflite_micro" / "python" / "tflite_micro"
    package.mkdir(parents=True)
    (package / "runtime.py").write_text(
        "class Interpreter:\n    @staticmethod\n    def from_file(path, arena_size):\n        return Interpreter()\n"
        "    def print_allocations(self):\n        print('[Recording] Arena allocation total 10704 bytes')\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]))
    assert arena_of(b"").size_bytes == 10704
    monkeypatch.setattr(micro, "MEASURE", "raise SystemExit(1)")
    assert "does not take the file" in arena_of(b"").note
    assert sys.executable
