"""Files that once ended a command in a traceback, a crash or a warning end it in one line: tests/corpus.

A new one goes there under the name of what is wrong with it.
"""

from pathlib import Path

import pytest

from export.backend import backend_of, get_backend
from runtime_tests.fuzz.findings import find
from runtime_tests.fuzz.samples import FACTORY, write_samples
from runtime_tests.fuzz.worker import Worker

CORPUS = sorted((Path(__file__).parents[2] / "corpus").iterdir())
pytest.importorskip("ai_edge_litert", reason="LiteRT is an extra: pip install '.[tflite]'")


def findings(*, with_bench: bool, folder: Path) -> list[str]:
    found = []
    checkpoints: dict[str, Path] = {}
    with Worker() as worker:
        for file in CORPUS:
            backend = backend_of(file)
            if backend.name not in checkpoints:
                place = folder / backend.name
                place.mkdir()
                checkpoints[backend.name], _ = write_samples(get_backend(backend.name), place)
            name, dense = f"net{backend.suffix}", f"dense{backend.suffix}"
            commands = [
                ("export.inspect", [name], None),
                ("export.materialize", [name, "-o", dense], dense),
                (
                    "runtime_tests.parity",
                    [str(checkpoints[backend.name]), name, "--model", FACTORY, "--count", "2", "--quiet"],
                    None,
                ),
            ]
            if with_bench:
                commands.append(("runtime_tests.bench.__main__", [name, "--seconds", "0.01", "--quiet"], None))
            for number, (module, words, target) in enumerate(commands):
                work = folder / f"{file.name}-{number}"
                work.mkdir()
                (work / name).write_bytes(file.read_bytes())
                what = find(worker.run(module, words, work), target)
                if what:
                    found.append(f"{file.name}: {module}: {what}")
    return found


@pytest.mark.slow("a process that reads each file three times")
def test_no_file_is_a_finding_any_more(tmp_path: Path) -> None:
    assert not findings(with_bench=False, folder=tmp_path)


@pytest.mark.full
def test_no_file_is_a_finding_to_bench(tmp_path: Path) -> None:
    assert not findings(with_bench=True, folder=tmp_path)
