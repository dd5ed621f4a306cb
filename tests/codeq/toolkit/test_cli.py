"""What all commands have in common: flags, suggestions, exit statuses, interruption, 80 columns."""

import argparse
import json
import logging
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import codeq
from codeq.errors import CodeqError
from codeq.toolkit import cli
from codeq.toolkit.report_version import FORMAT_VERSION
from codeq.toolkit.startup import ROOT


@pytest.fixture(autouse=True)
def _levels() -> Iterator[None]:
    loggers = [logging.getLogger(name) for name in (None, "codeq", "__main__")]
    levels = [logger.level for logger in loggers]
    yield
    for logger, level in zip(loggers, levels, strict=True):
        logger.setLevel(level)


def parser() -> argparse.ArgumentParser:
    made = cli.build_parser(
        "export.onnx",
        "Write a file. " * 9,
        "python -m export.onnx ckpt.pt --activations int8 --storage packed -o m.onnx",
    )
    made.add_argument("checkpoint")
    made.add_argument("--activations", choices=("int8", "float32"), help="how")
    made.add_argument("--peak", action="store_true", help=argparse.SUPPRESS)
    cli.add_common(made, json="the report", force="existing outputs", threads="CPU threads")
    return made


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["a.pt", "--activatons", "int8"], "unrecognized arguments: --activatons; did you mean --activations?"),
        (["--activatons=int8"], "unrecognized arguments: --activatons; did you mean --activations?"),
        (["a.pt", "--pea"], "unrecognized arguments: --pea"),  # a hidden flag is not proposed
        (
            ["a.pt", "--activations", "int9"],
            "argument --activations: invalid choice: 'int9' (choose from int8, float32); did you mean int8?",
        ),
        (["a.pt", "--activations", "x"], "argument --activations: invalid choice: 'x' (choose from int8, float32)"),
        (["a.pt", "--threads", "0"], "argument --threads: expected an integer from 1 to 1024, found '0'"),
        ([], "the following arguments are required: checkpoint"),
        (["a.pt", "b.pt"], "unrecognized arguments: b.pt"),
    ],
)
def test_a_typo_is_one_line(words: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        parser().parse_args(words)
    assert caught.value.code == 2
    assert capsys.readouterr().err == f"python -m export.onnx: error: {message} (see --help)\n"


def test_what_follows_two_dashes_is_no_flag() -> None:
    assert parser().parse_args(["--", "--odd-name.pt"]).checkpoint == "--odd-name.pt"


def test_common_flags_have_the_same_names_everywhere() -> None:
    found = parser().parse_args(["a.pt", "--json", "-", "--force", "--threads", "2"])
    assert (found.json, found.force, found.threads) == (Path("-"), True, 2)
    bare = cli.build_parser("export.onnx", "", "")
    cli.add_common(bare)
    assert set(vars(bare.parse_args([]))) == {"quiet", "verbose", "debug"}


@pytest.mark.parametrize(
    ("words", "root", "ours"),
    [
        ([], logging.WARNING, logging.NOTSET),
        (["-q"], logging.ERROR, logging.NOTSET),
        (["-v"], logging.WARNING, logging.INFO),
        (["-vv"], logging.WARNING, logging.DEBUG),
    ],
)
def test_verbosity(words: list[str], root: int, ours: int) -> None:
    logging.getLogger().setLevel(logging.WARNING)
    parser().parse_args(["a.pt", *words])
    assert logging.getLogger().level == root
    assert logging.getLogger("codeq").level == ours


def test_every_report_for_machines_begins_with_its_version(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cli.write_json(Path("-"), {"ok": True})
    assert json.loads(capsys.readouterr().out) == {"format_version": FORMAT_VERSION, "ok": True}
    cli.write_json(tmp_path / "a.json", {"ok": True})
    assert next(iter(json.loads((tmp_path / "a.json").read_text()))) == "format_version"


def test_quiet_shows_no_progress(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cli, "QUIET_SECONDS", 0)
    for words, shown in (([], "bench 50%  half\n"), (["-q"], "")):
        parser().parse_args(["a.pt", *words])
        with cli.progress_bar("bench", 10) as update, cli.spinner("working"):
            update(5, "half")
        assert capsys.readouterr().err == shown


def test_version_names_what_computes(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        parser().parse_args(["--version"])
    assert caught.value.code == 0
    assert capsys.readouterr().out.startswith("codeq 0.")


def test_help_fits_80_columns_and_its_example_can_be_copied(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    text = parser().format_help()
    assert max(map(len, text.splitlines())) <= 80
    example = text.partition("example:\n")[2].replace("\\\n", "")
    assert shlex.split(example) == shlex.split(
        "python -m export.onnx ckpt.pt --activations int8 --storage packed -o m.onnx"
    )
    assert "-o \\\n" not in text


def test_help_says_how_the_command_was_started() -> None:
    with cli.started_as("codeq export onnx"):
        assert cli.program_name("export.onnx") == "codeq export onnx"
        text = parser().format_help()
    assert text.startswith("usage: codeq export onnx ")
    assert "example:\n  codeq export onnx ckpt.pt" in text
    assert cli.program_name("export.onnx") == "python -m export.onnx"


@pytest.mark.parametrize(
    ("parse", "text"),
    [
        (cli.number(0, 1), "expected a number of at least 0 and at most 1, found 'x'"),
        (cli.number(0, 1, above=True, below=True), "expected a number above 0 and below 1, found 'x'"),
        (cli.number(0), "expected a number of at least 0, found 'x'"),
        (cli.integer(1), "expected an integer of at least 1, found 'x'"),
    ],
)
def test_numbers_say_what_they_expect(parse: Callable[[str], float], text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match=f"^{text}$"):
        parse("x")


def test_bounds_belong_to_a_number_unless_they_are_excluded() -> None:
    assert [cli.number(0, 1)(text) for text in ("0", "1")] == [0, 1]
    for text in ("0", "1", "nan", "inf"):
        with pytest.raises(argparse.ArgumentTypeError):
            cli.number(0, 1, above=True, below=True)(text)


def raising(error: BaseException) -> Callable[[list[str] | None], int]:
    def main(argv: list[str] | None) -> int:
        raise error

    return main


@pytest.mark.parametrize(
    ("main", "status", "message"),
    [
        (lambda argv: 0, 0, ""),
        (lambda argv: 1, 1, ""),
        (raising(CodeqError("a.pt: no such file")), 2, "error: a.pt: no such file\n"),
        (raising(CodeqError("a\x1b[2J.pt:\nhashes ok")), 2, "error: a\\x1b[2J.pt:\\nhashes ok\n"),
        (raising(CodeqError("x" * 10**7)), 2, f"error: {'x' * 1997}...\n"),
        (raising(MemoryError()), 2, "error: this machine has not enough memory for that\n"),
        (raising(KeyboardInterrupt()), 130, "interrupted\n"),
    ],
)
def test_exit_statuses(
    main: Callable[[list[str] | None], int],
    status: int,
    message: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(cli, "_is_running", False)
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    with pytest.raises(SystemExit) as caught:
        cli.run(main)
    assert caught.value.code == status
    assert capsys.readouterr().err == message


DEBUG = ["--debug"]


@pytest.mark.parametrize("words", [[], DEBUG], ids=["without", "with"])
def test_a_bug_of_ours_is_one_line_and_its_traceback_is_behind_debug(
    words: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def main(argv: list[str] | None) -> int:
        cli.build_parser("export.onnx", "", "").parse_args(words)
        cli.numbers(None)  # type: ignore[arg-type]
        return 0

    monkeypatch.setattr(cli, "_is_running", False)
    monkeypatch.setattr(cli, "_debug", False)
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    with pytest.raises(SystemExit) as caught:
        cli.run(main)
    assert caught.value.code == 3
    *above, line = capsys.readouterr().err.splitlines()
    assert line.startswith(
        f"error: this is a bug in codeq {codeq.__version__}: AttributeError at codeq/toolkit/cli.py:"
    )
    assert "please report this command with" in line
    assert bool(above) == (words == DEBUG)


def test_a_reader_that_leaves_ends_a_command() -> None:
    program = "from codeq.toolkit import cli; cli.run(lambda argv: print('x' * 10**6) or 0)"
    command = f"{shlex.quote(sys.executable)} -c {shlex.quote(program)} | true; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("141\n", "")


def interrupt_while_it_loads(tmp_path: Path, *command: str) -> tuple[int, str]:
    """Send SIGINT to a real process a moment after it has begun to import torch."""
    mark = tmp_path / "loading"
    (tmp_path / "sitecustomize.py").write_text(
        f"import sys\nsys.addaudithook(lambda event, words: event == 'import' and words[0] == 'torch' "
        f"and open({str(mark)!r}, 'w').close())\n"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT)])}
    process = subprocess.Popen(
        [sys.executable, *command],
        stderr=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
        env=environment,
        # A test run in the background ignores SIGINT, and its children would inherit that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    deadline = time.monotonic() + 60
    while not mark.exists():
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)
    time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    _, log = process.communicate(timeout=60)
    return process.returncode, log


@pytest.mark.parametrize("command", [["-m", "codeq.train"], ["-m", "codeq_cli", "train"]], ids=" ".join)
def test_ctrl_c_while_libraries_load_is_one_line(command: list[str], tmp_path: Path) -> None:
    assert interrupt_while_it_loads(tmp_path, *command, "--dry-run") == (130, "interrupted\n")


def test_a_network_is_built_by_its_name_or_by_a_function() -> None:
    model, built = cli.build_model("autoencoder", {"in_features": 16})
    assert built == {"name": "autoencoder", "arguments": {"in_features": 16}}
    other, by_factory = cli.build_model("models.autoencoder:Autoencoder", {"in_features": 16})
    assert by_factory == {"factory": "models.autoencoder:Autoencoder", "arguments": {"in_features": 16}}
    assert list(other.state_dict()) == list(model.state_dict())
    with pytest.raises(CodeqError, match="--model autoencoder: "):
        cli.build_model("autoencoder", {"wrong": 1})
