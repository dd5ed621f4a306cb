"""The README's Python runs as printed, and its options exist."""

import re
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
SNIPPETS = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)


@pytest.mark.slow("it trains and exports")
def test_the_loop_runs_and_the_file_opens(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run_the_file, own_loop = SNIPPETS
    monkeypatch.chdir(tmp_path)
    batches = [(torch.randn(8, 3, 32, 32), torch.randint(0, 10, (8,))) for _ in range(3)]
    names: dict[str, object] = {"batches": batches}
    exec(own_loop, names)
    output = capsys.readouterr().out
    assert "stage1.0.conv1.weight" in output
    assert "weights bit for bit: ok" in output
    assert sorted(path.name for path in tmp_path.iterdir()) == ["net.onnx", "net.pt"]
    (tmp_path / "net.onnx").rename("model.onnx")
    exec(run_the_file, {"images": batches[0][0].numpy()})


@pytest.mark.parametrize(
    "module",
    [
        "codeq.train",
        "codeq.compress",
        "codeq.advise",
        "codeq.adopt",
        "codeq.pareto",
        "runtime_tests.training_step",
        "export.onnx",
        "export.inspect",
        "export.materialize",
        "runtime_tests.parity",
        "runtime_tests.runtimes",
        "runtime_tests.bench",
    ],
)
def test_every_option_named_for_a_command_exists(module: str, capsys: pytest.CaptureFixture[str]) -> None:
    name = f"{module}.__main__" if find_spec(module).submodule_search_locations else module  # type: ignore[union-attr]
    with pytest.raises(SystemExit):
        import_module(name).main(["--help"])
    known = capsys.readouterr().out
    lines = [line for line in README.splitlines() if f"-m {module}" in line]
    assert lines
    for option in {option for line in lines for option in re.findall(r"(?<= )--?[a-z-]+", line) if option != "-m"}:
        assert option in known, option
