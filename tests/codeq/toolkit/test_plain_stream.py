"""What leaves a command is text, and a device that takes no more is no failed check."""

import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from codeq.toolkit.plain_stream import plain_streams, raw
from codeq.toolkit.startup import ROOT


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no device that is always full")
@pytest.mark.parametrize("stream", ["1", "2"])
def test_a_full_device_is_no_failed_check(stream: str) -> None:
    program = "from codeq.toolkit import cli; import sys; cli.run(lambda argv: print('x' * 10**6, file=sys.{}) or 0)"
    name = {"1": "stdout", "2": "stderr"}[stream]
    command = f"{shlex.quote(sys.executable)} -c {shlex.quote(program.format(name))} {stream}>/dev/full; echo $?"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=True, cwd=ROOT)
    log = "error: cannot write to stdout: No space left on device\n" if name == "stdout" else ""
    assert (done.stdout, done.stderr) == ("2\n", log)


def test_what_is_printed_cannot_speak_to_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    with plain_streams():
        print("\x1b[2J\x1b]0;title\x07 \u202ename\ud800\r", "kept: ä\t日本", sep="\n")
        print("\x9b2J", file=sys.stderr)
    out, err = capsys.readouterr()
    assert out == "\\x1b[2J\\x1b]0;title\\x07 \\u202ename\\ud800\\r\nkept: ä\t日本\n"
    assert err == "\\x9b2J\n"


def test_what_draws_gets_the_stream_beneath() -> None:
    before = sys.stderr
    with plain_streams():
        assert raw(sys.stderr) is before
        assert sys.stderr.isatty() == before.isatty()
    assert sys.stderr is before
