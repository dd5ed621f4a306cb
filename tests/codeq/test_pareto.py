"""The command, as a user runs it."""

import json
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import pytest

Command = Callable[..., "CompletedProcess[str]"]
Write = Callable[..., Path]

FIGURES = ["pareto-bops", "pareto-bytes"]
PER_RUN = ["layers", "progress", "weights"]


@pytest.mark.slow("matplotlib draws")
@pytest.mark.full
def test_table_and_figures(run_command: Command, write_log: Write, tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    runs.mkdir()
    write_log(runs / "1.jsonl", "net-s0", accuracy=0.90, relative_bops=0.01, entropy_bytes=3000)
    write_log(runs / "2.jsonl", "net-s1", accuracy=0.94, relative_bops=0.03, entropy_bytes=5000)
    write_log(runs / "3.jsonl", "cheap", accuracy=0.80, relative_bops=0.005, entropy_bytes=9000)
    write_log(runs / "4.jsonl", "bad/../name", accuracy=0.70, relative_bops=0.5, entropy_bytes=9000)
    write_log(runs / "5.jsonl", "killed", finished=False)
    write_log(runs / "6.jsonl", "diverged", accuracy=None)
    done = run_command("codeq.pareto", "runs", "--json", "all.json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "run          seeds    test accuracy  zeros  bits    BOPs   bound  on the front",
        "-----------  -----  ---------------  -----  ----  ------  ------  ------------",
        "cheap            1           80.00%  75.0%  4.50   0.50%  9.0 kB  BOPs only",
        "net              2  92.00% +- 2.83%  75.0%  4.50   2.00%  4.0 kB  yes",
        "bad/../name      1           70.00%  75.0%  4.50  50.00%  9.0 kB  no",
        "BOPs relative to dense 32 x 32 bits; bound: entropy of the codes; +- one standard deviation",
        "14 figures written to pareto/",
    ]
    left_out = {"runs/5.jsonl": "no result record", "runs/6.jsonl": "its result has no test_accuracy"}
    reasons = ", ".join(f"{path} ({reason})" for path, reason in left_out.items())
    # Above ten seconds, on a busy machine, there is progress, too.
    complaints = [line for line in done.stderr.splitlines() if not line.startswith("figures ")]
    assert complaints == [f"WARNING: left out: {reasons}"]
    names = ["net-s0", "net-s1", "cheap", "bad_.._name"]
    expected = [*FIGURES, *(f"{name}-{figure}" for name in names for figure in PER_RUN)]
    assert sorted(path.name for path in (tmp_path / "pareto").iterdir()) == sorted(f"{name}.png" for name in expected)
    report = json.loads((tmp_path / "all.json").read_text())
    assert report["left_out"] == left_out
    assert len(report["figures"]) == 14
    cheap, net, _ = report["groups"]
    assert (cheap["on_relative_bops_front"], cheap["on_entropy_bytes_front"]) == (True, False)
    assert (net["test_accuracy"], net["test_accuracy_deviation"]) == pytest.approx((0.92, 0.02 * 2**0.5))
    assert cheap["test_accuracy_deviation"] is None
    assert net["runs"] == ["runs/1.jsonl", "runs/2.jsonl"]


def test_svg_json_to_stdout_and_a_log_named_twice(run_command: Command, write_log: Write, tmp_path: Path) -> None:
    path = write_log(tmp_path / "net.jsonl")
    arguments = (path, path, tmp_path, "-o", tmp_path / "a" / "b", "--format", "svg", "--json", "-")
    done = run_command("codeq.pareto", *arguments)
    assert done.returncode == 0, done.stderr
    assert [group["name"] for group in json.loads(done.stdout)["groups"]] == ["net"]
    expected = [*FIGURES, *(f"net-{figure}" for figure in PER_RUN)]
    assert sorted(file.name for file in (tmp_path / "a" / "b").iterdir()) == sorted(f"{name}.svg" for name in expected)


def test_existing_figures_need_force(run_command: Command, write_log: Write, tmp_path: Path) -> None:
    path = write_log(tmp_path / "net.jsonl")
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / "net-weights.png").write_text("mine")
    done = run_command("codeq.pareto", path, "-o", folder)
    assert done.returncode == 2
    assert done.stderr == f"error: {folder}/net-weights.png exists; use --force to overwrite it\n"
    assert [file.name for file in folder.iterdir()] == ["net-weights.png"]  # nothing half done
    assert run_command("codeq.pareto", path, "-o", folder, "--force").returncode == 0
    assert (folder / "net-weights.png").read_bytes().startswith(b"\x89PNG")


def test_a_float_run_has_no_weights_to_draw(run_command: Command, write_log: Write, tmp_path: Path) -> None:
    path = write_log(tmp_path / "net.jsonl", layers=1)  # the fixture's first layer is a float one
    assert run_command("codeq.pareto", path, cwd=tmp_path).returncode == 0
    expected = [*FIGURES, "net-layers", "net-progress"]
    assert sorted(file.stem for file in (tmp_path / "pareto").iterdir()) == sorted(expected)


def test_bad_input_is_one_line(run_command: Command, write_log: Write, tmp_path: Path) -> None:
    write_log(tmp_path / "net.jsonl", "net", epochs=1)
    write_log(tmp_path / "twin.jsonl", "NET", epochs=1)
    write_log(tmp_path / "killed.jsonl", "killed", epochs=1, finished=False)
    (tmp_path / "broken.jsonl").write_text('{"event": "start"}\n')
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("")
    cases = {
        ("missing.jsonl",): "error: cannot read missing.jsonl: No such file or directory",
        ("broken.jsonl",): "error: broken.jsonl: line 1: start record: name is missing",
        ("empty",): "error: empty: the folder holds no *.jsonl",
        ("killed.jsonl",): "error: no run to compare: killed.jsonl (no result record)",
        ("net.jsonl", "twin.jsonl"): "error: net.jsonl and twin.jsonl would both write NET-layers.png; give one in a "
        "call of its own, with its own -o",
        ("net.jsonl", "-o", "file"): "error: cannot write file: File exists",
        ("net.jsonl", "--json", "net.jsonl", "--force"): "error: --json net.jsonl: is a file that this command reads "
        "or writes; name another one",
        ("net.jsonl", "--format", "pdf"): "python -m codeq.pareto: error: argument --format: invalid choice: 'pdf'",
    }
    for arguments, message in cases.items():
        done = run_command("codeq.pareto", *arguments, cwd=tmp_path)
        assert (done.returncode, done.stdout) == (2, ""), arguments
        assert done.stderr.startswith(message), done.stderr
        assert done.stderr.count("\n") == 1, done.stderr
    assert not (tmp_path / "pareto").exists()


def test_help(run_command: Command) -> None:
    done = run_command("codeq.pareto", "--help")
    assert done.returncode == 0
    assert "(default: pareto)" in done.stdout
    assert "example:\n  python -m codeq.pareto" in done.stdout
