"""What is timed beside a network's files."""

from pathlib import Path

import pytest

from runtime_tests.matrix.report import ZooReport
from runtime_tests.matrix.timing import TIMED, bench_network
from runtime_tests.matrix.zoo_file import export_zoo_file, file_path
from tests.runtime_tests.matrix.small import small


@pytest.mark.full
@pytest.mark.usefixtures("no_processes")
def test_networks_beyond_mlperf_tiny_are_timed_without_quantize_static(tmp_path: Path) -> None:
    model, inputs = small("gru")
    for activations, storage in TIMED:
        path = file_path(tmp_path, "gru", activations, storage)
        export_zoo_file("gru", model, inputs, path, activations, storage)
    timed = bench_network("gru", model, inputs, tmp_path, rounds=1)
    assert timed.quantize_static is None
    assert timed.to_dict()["of_quantize_static"] == {"int8": None, "packed": None}
    report = ZooReport((), (timed,))
    assert max(map(len, str(report).splitlines())) <= 100
