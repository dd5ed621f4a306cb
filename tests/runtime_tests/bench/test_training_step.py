"""What a training step costs: each way takes its turn, on a network of a second."""

import pytest

from codeq.errors import CodeqError
from codeq.quantizer.dead_zone import DeadZoneQuantizer
from runtime_tests.bench import training_step
from runtime_tests.bench.training_step import WAYS, measure_step


def test_every_way_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training_step, "OPERATOR_SHAPE", (8, 8, 3, 3))
    monkeypatch.setattr(training_step, "REFRESH_CALLS", 2)
    monkeypatch.setattr(training_step.fused, "set_compile", lambda on: None)  # compiling takes seconds
    forward = DeadZoneQuantizer.forward
    report = measure_step("resnet8", batch=2, input_size=8, rounds=1)
    assert DeadZoneQuantizer.forward is forward
    assert [cost.name for cost in report.steps] == ["float", *WAYS]
    assert [cost.name for cost in report.operators] == [*WAYS]
    assert (report.steps[0].ratio, report.steps[0].memory_ratio, report.operators[-1].ratio) == (1, 1, 1)
    for cost in report.steps:
        assert cost.milliseconds > 0
        assert cost.memory_ratio is not None
        assert cost.memory_ratio >= 1
    assert max(map(len, str(report).splitlines())) <= 100
    assert report.to_dict()["steps"][1]["name"] == "compiled"


def test_a_network_that_takes_no_images() -> None:
    with pytest.raises(CodeqError, match=r"^gru: "):
        measure_step("gru")
