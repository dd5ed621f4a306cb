"""A run writes nothing that it reads and nothing twice; test_train.py sees the same through the command."""

from pathlib import Path

import pytest

from codeq.errors import OutputError
from codeq.training.recipe import TrainConfig
from codeq.training.run_files import check_run_files


def test_what_a_run_may_write(tmp_path: Path) -> None:
    outputs = {"--output": tmp_path / "a.pt", "--log": tmp_path / "a.jsonl", "--best": None}
    check_run_files(outputs, TrainConfig())
    (tmp_path / "a.pt").write_text("old")
    with pytest.raises(OutputError, match="use --force to overwrite it"):
        check_run_files(outputs, TrainConfig())
    check_run_files(outputs, TrainConfig(), force=True)
    check_run_files(outputs, TrainConfig(), resume=tmp_path / "a.pt")  # it goes on in its own file


@pytest.mark.parametrize("force", [False, True])
def test_what_a_run_reads_and_what_it_writes_already(force: bool, tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    with pytest.raises(OutputError, match=r"^--log .*a\.pt: is the file of --output; name another one$"):
        check_run_files({"--output": path, "--log": path}, TrainConfig(), force=force)
    with pytest.raises(OutputError, match=r"^--output .*a\.pt: is the file of --teacher, which is read"):
        check_run_files({"--output": path}, TrainConfig(teacher=str(path)), force=force)
    with pytest.raises(OutputError, match=r"^--best .*a\.pt: is the file of --resume, which is read"):
        check_run_files({"--best": path}, TrainConfig(), resume=path, force=force)
