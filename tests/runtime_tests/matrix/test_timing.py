"""What is timed beside a network's files."""

from pathlib import Path

import pytest

from runtime_tests.matrix.report import ZooReport
from runtime_tests.matrix.timing import bench_network
from runtime_tests.matrix.zoo_file import all_kinds, export_zoo_file
from tests.runtime_tests.matrix.small import small


@pytest.mark.full
@pytest.mark.usefixtures("no_processes")
def test_networks_beyond_mlperf_tiny_are_timed_without_quantize_static(tmp_path: Path) -> None:
    model, inputs = small("gru")
    kind = all_kinds()[0]
    export_zoo_file("gru", model, inputs, tmp_path, "int8", kind)
    timed = bench_network("gru", model, inputs, tmp_path, [kind.path(tmp_path, "gru", "int8")], rounds=1)
    assert timed.quantize_static is None
    (file,) = timed.to_dict()["files"]
    assert (file["path"], file["of_quantize_static"]) == ("int8-auto.onnx", None)
    text = str(ZooReport((), (timed,), 1))
    assert "float32.onnx" in text
    assert "int8-auto.onnx" in text
    assert max(map(len, text.splitlines())) <= 100
