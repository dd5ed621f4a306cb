"""What README and docs/ say can be typed: options exist, Python runs as printed, and so do the first commands."""

import contextlib
import io
import re
import shlex
import subprocess
import sys
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "examples" / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
LINES_OF_README = 150
COMMAND = re.compile(r"-m ((?:codeq|export|runtime_tests)(?:\.[a-z]\w*)+)((?: [^`#\n]*)?)")
OPTION = re.compile(r"(?<=\s)--[a-z][a-z0-9-]*")


def text_of(page: Path) -> str:
    """Read a page with commands that go on in the next line made one."""
    return page.read_text().replace("\\\n", " ")


def block_of(page: Path, start: str) -> str:
    """Find the snippet of Python that begins so."""
    return next(
        found for found in re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL) if found.startswith(start)
    )


def test_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= LINES_OF_README


@cache
def options_of(module: str, part: str = "") -> set[str]:
    """Read the options of a command, or of a part of one, from its help."""
    spec = find_spec(module)
    assert spec is not None, module
    name = f"{module}.__main__" if spec.submodule_search_locations else module
    out = io.StringIO()
    with pytest.raises(SystemExit), contextlib.redirect_stdout(out), contextlib.redirect_stderr(io.StringIO()):
        import_module(name).main([*part.split(), "--help"])
    return set(re.findall(r"--[a-z][a-z0-9-]*", out.getvalue()))


@pytest.mark.parametrize("page", [page for page in PAGES if COMMAND.search(text_of(page))], ids=lambda page: page.name)
def test_options_exist(page: Path) -> None:
    missing = []
    for module, arguments in COMMAND.findall(text_of(page)):
        known = options_of(module)
        words = arguments.split()
        if words and re.fullmatch("[a-z0-9]+", words[0]):  # it may be a part, as in `fuzz onnx --count 3`
            known = known | options_of(module, words[0])
        missing += [f"{module}: {option}" for option in OPTION.findall(f" {arguments}") if option not in known]
    assert not missing


@pytest.mark.slow("it compresses and exports")
def test_the_first_minute_of_readme(tmp_path: Path) -> None:
    """The commands under "Your own network", on a network and photographs that are no part of this project."""
    (tmp_path / "mynet.py").write_text(
        "from torch import nn\n\n\ndef build():\n"
        "    first = [nn.Conv2d(3, 8, 3, stride=8), nn.BatchNorm2d(8), nn.ReLU()]\n"
        "    return nn.Sequential(*first, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5))\n"
    )
    sys.path.insert(0, str(tmp_path))
    try:
        network = import_module("mynet").build()
    finally:
        sys.path.remove(str(tmp_path))
        sys.modules.pop("mynet", None)
    torch.save(network.state_dict(), tmp_path / "weights.pt")
    (tmp_path / "photos").mkdir()
    random = np.random.default_rng(0)
    for number in range(24):
        pixels = random.integers(0, 256, (9, 12, 3)).repeat(28, 0).repeat(28, 1).astype(np.uint8)
        Image.fromarray(pixels).save(tmp_path / "photos" / f"{number}.png")
    section = text_of(ROOT / "README.md").partition("`mynet.py` has")[2].partition("Inputs that are no images")[0]
    commands = re.findall(r"^    python (-m .*)$", section, re.MULTILINE)
    assert len(commands) == 4
    for command in commands:
        arguments, _, target = command.partition("#")[0].partition(" > ")
        done = subprocess.run(
            [sys.executable, *shlex.split(arguments)], cwd=tmp_path, capture_output=True, text=True, check=True,
            env={"PYTHONPATH": str(ROOT), "PATH": "", "HOME": str(tmp_path), "OMP_NUM_THREADS": "1"},
        )  # fmt: skip
        if target:
            (tmp_path / target.strip()).write_text(done.stdout)
    shown = subprocess.run(
        [sys.executable, "feed.py", "photos/3.png"], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert shown.stdout.startswith("photos/3.png")


@pytest.mark.slow("it compresses and exports")
def test_the_first_python_of_readme(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5)).eval()
    names: dict[str, object] = {"model": model, "images": torch.randn(24, 3, 16, 16)}
    exec(block_of(ROOT / "README.md", "from export import export_onnx, load_session"), names)
    assert np.asarray(names["logits"]).shape == (24, 5)


@pytest.mark.slow("it trains and exports")
def test_the_loop_runs_and_the_file_opens(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    batches = [(torch.randn(8, 3, 32, 32), torch.randint(0, 10, (8,))) for _ in range(3)]
    names: dict[str, object] = {"batches": batches}
    exec(block_of(ROOT / "docs" / "own_loop.md", "import torch\n"), names)
    output = capsys.readouterr().out
    assert "stage1.0.conv1.weight" in output
    assert "weights bit for bit: ok" in output
    assert sorted(path.name for path in tmp_path.iterdir()) == ["net.onnx", "net.pt"]
    (tmp_path / "net.onnx").rename("model.onnx")
    run_the_file = block_of(ROOT / "docs" / "export_onnx.md", "from export import load_session")
    exec(run_the_file, {"images": batches[0][0].numpy()})
