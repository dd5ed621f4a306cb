"""What others print for their developers stays off the screen, and nothing else."""

import logging
import os
import sys
import warnings

import pytest

from codeq.toolkit.quiet import quiet_native, quiet_torch, silence


def test_warnings_and_logs_of_the_exporter_are_dropped(
    caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    logger = logging.getLogger("torch.onnx")
    before = logger.level
    with quiet_torch():
        warnings.warn("deprecated", stacklevel=1)
        logger.error("for developers")
        print("for developers", file=sys.stderr)
    assert caplog.text == ""
    assert capsys.readouterr().err == ""
    assert logger.level == before
    with pytest.raises(KeyError), quiet_torch():
        raise KeyError


def test_compiled_code_is_silent(capfd: pytest.CaptureFixture[str]) -> None:
    with silence():
        os.write(1, b"from C\n")
        os.write(2, b"from C\n")
    print("afterwards")
    assert capfd.readouterr() == ("afterwards\n", "")


def test_known_lines_are_dropped_and_others_arrive(capfd: pytest.CaptureFixture[str]) -> None:
    with quiet_native("INFO: "):
        os.write(2, b"INFO: created a delegate\nerror: no memory\n")
    assert capfd.readouterr().err == "error: no memory\n"
