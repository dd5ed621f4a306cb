"""The rules of the house, read from the source: who may import whom, what is named where, what has a test.

Imports under TYPE_CHECKING and inside functions count like all others. An exception stands here with its reason.
"""

import ast
import re
import tomllib
from collections import defaultdict
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

import pytest

from export.backend import BACKENDS, get_backend
from tests.commands import COMMANDS
from tests.mirrors import TESTED_BY

ROOT = Path(__file__).parents[1]
PACKAGES = ("models", "codeq", "export", "runtime_tests", "codeq_cli")

LAYERS: dict[str, tuple[str, ...]] = {
    "": ("models", "codeq", "export", "runtime_tests", "codeq_cli"),
    "codeq": (
        "errors version",
        "toolkit seal",
        "graph run_log safe_load content_digest",
        "data stored_inputs",
        "quantizer",
        "activations cost",
        "channels",
        "checkpoint figures",
        "training trusted_factory",
        "train compress adopt pareto",
        "advise",
    ),
    "export": (
        "errors input_slot",
        "options",
        "metadata",
        "program",
        "reference runner",
        "parity",
        "report state_report",
        "backend",
        "plain_network rewrite stored_network stored_program feeding_code",
        "publish from_checkpoint",
        "command",
        " ".join(BACKENDS),
        "inspect materialize",
    ),
    "runtime_tests": (
        "options networks runners",
        "devices",
        "agreement bench",
        "fuzz kills matrix",
        "parity runtimes compare zoo storage scaling tflite_modes training_step probe_file kernel_times",
    ),
}
"""Per folder its rooms and files from the bottom up; each imports from lower ones and its own. Those on one line do not
import each other. Deeper folders have no order of their own here, but no circle either."""
NO_RUNTIME = ("export.program", "export.reference", "export.parity")
"""What knows no runtime's package."""
RUNTIMES = frozenset({"onnx", "onnxruntime", "onnx_ir", "onnxscript", "ai_edge_litert", "flatbuffers", "openvino"})
HEAVY = frozenset({"torch", "numpy", "rich", "matplotlib", *RUNTIMES})
"""What a command imports only once it knows what to do."""
OF_ONE_BACKEND = {
    "export": "offers export_onnx and export_tflite by these names",
    "export.backend": "has the entries",
    "runtime_tests.devices.bochs": "has a Python import both runtimes, once for all files",
    "runtime_tests.devices.browser": "says what each runtime of a browser reads",
    "runtime_tests.devices.run": "takes a network along whose zeros LiteRT alone skips",
    "runtime_tests.devices.mcu": "TFLite Micro reads .tflite files",
    "runtime_tests.devices.on_device": "runs on devices, which have a runtime and none of this project",
    "runtime_tests.runners.openvino": "OpenVINO reads ONNX files",
    "runtime_tests.runners.openvino_runner": "OpenVINO reads ONNX files",
    "runtime_tests.bench.baselines": "is torch's ONNX exporter and onnxruntime's quantize_static, to compare with",
    "runtime_tests.bench.kernel_clock": "reads onnxruntime's own profile; LiteRT has none",
    "runtime_tests.bench.kernel_times": "asks each runtime's files for a layer that its clock can tell from the rest",
    "runtime_tests.bench.export_cost": "compares export_onnx with torch's own exporter",
    "runtime_tests.bench.four_files": "compares export_onnx with torch's own exporter and quantize_static",
    "runtime_tests.bench.storage": "compares the storages of ONNX files",
    "runtime_tests.bench.scaling": "compares the storages of ONNX files",
    "runtime_tests.storage": "is the command of that",
    "runtime_tests.scaling": "is the command of that",
    "runtime_tests.kills.cases": "names every command that writes files",
    "runtime_tests.fuzz.names": "has an entry for each format",
    "runtime_tests.fuzz.onnx_files": "changes ONNX files",
    "runtime_tests.fuzz.tflite_files": "changes .tflite files",
    "runtime_tests.bench.tflite_modes": "compares the kinds of .tflite files",
}
"""What is about one backend by its purpose, outside the backend's folder, and why."""


@cache
def modules() -> dict[str, Path]:
    """Every module of the project by its dotted name; a package goes by its own."""
    found = {}
    for package in PACKAGES:
        single = ROOT / f"{package}.py"
        for path in [single] if single.exists() else sorted((ROOT / package).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


@cache
def tree(name: str) -> ast.Module:
    return ast.parse(modules()[name].read_text())


@cache
def imports(name: str, top_level_only: bool = False) -> frozenset[str]:
    """The modules that a module imports, ours and others'; `from package import module` counts as the module."""
    found: set[str] = set()
    for node in tree(name).body if top_level_only else ast.walk(tree(name)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, f"{name}: imports are absolute"
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                found.add(full if full in modules() else node.module)
    return frozenset(found)


def ours(name: str) -> set[str]:
    return {target for target in imports(name) if target in modules() and target != name}


def room(folder: str, name: str) -> str | None:
    """The part of a folder that a module is in: `export.onnx.lower` is in `onnx` of `export`."""
    prefix = f"{folder}." if folder else ""
    return name.removeprefix(prefix).split(".")[0] if name.startswith(prefix) and name != folder else None


def place(folder: str, part: str) -> int:
    for index, line in enumerate(LAYERS[folder]):
        if part in line.split():
            return index
    raise AssertionError(f"{folder or 'the project'} has a new part {part!r}: give it a place in LAYERS")


@pytest.mark.parametrize("folder", LAYERS, ids=lambda folder: folder or "project")
def test_imports_point_one_way(folder: str) -> None:
    wrong = []
    for name in modules():
        source = room(folder, name)
        if source is None:
            continue
        for target in ours(name):
            found = room(folder, target)
            if found is not None and found != source and place(folder, found) >= place(folder, source):
                wrong.append(f"{name} imports {target}")
    assert not wrong, "\n".join(wrong)


def test_no_circle() -> None:
    state: dict[str, int] = {}
    path: list[str] = []

    def visit(name: str) -> None:
        state[name] = 1
        path.append(name)
        for target in sorted(ours(name)):
            if state.get(target) == 1:
                raise AssertionError("a circle: " + " -> ".join([*path[path.index(target) :], target]))
            if target not in state:
                visit(target)
        path.pop()
        state[name] = 2

    for name in modules():
        if name not in state:
            visit(name)


def _circle(edges: Mapping[str, set[str]]) -> list[str]:
    """A circle among the keys; empty where there is none."""
    left = dict(edges)
    while True:
        free = [name for name, targets in left.items() if not targets & left.keys()]
        if not free:
            return list(left)
        for name in free:
            del left[name]


def test_rooms_form_no_circle() -> None:
    """In every folder: what its parts import of each other has a direction."""
    folders = {name.rsplit(".", 1)[0] for name in modules() if "." in name}
    wrong = {}
    for folder in folders:
        edges: dict[str, set[str]] = defaultdict(set)
        for name in modules():
            source = room(folder, name)
            if source is not None:
                edges[source] |= {part for part in (room(folder, target) for target in ours(name)) if part} - {source}
        if circle := _circle(edges):
            wrong[folder] = circle
    assert not wrong


def _backend_of(name: str) -> str | None:
    """The backend in whose folder a module is."""
    return next((backend for backend in BACKENDS if f"{name}.".startswith(f"export.{backend}.")), None)


def test_backends_do_not_know_each_other() -> None:
    for name in modules():
        if own := _backend_of(name):
            assert not [target for target in ours(name) if _backend_of(target) not in (own, None)], name


def _of_a_backend(name: str, source: ast.Module) -> list[str]:
    """What a module has of a single backend: its modules, packages of runtimes, and its names as values."""
    words = {
        word
        for backend in map(get_backend, BACKENDS)
        for word in (backend.name, backend.suffix, backend.runtime, backend.runtime.lower(), backend.package)
    }
    docstrings = {node.value for node in ast.walk(source) if isinstance(node, ast.Expr)}
    found = [f"imports {target}" for target in ours(name) if _backend_of(target)] if name in modules() else []
    for node in ast.walk(source):
        if isinstance(node, ast.Import):
            found += [f"imports {item.name}" for item in node.names if item.name.split(".")[0] in RUNTIMES]
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in RUNTIMES:
            found.append(f"imports {node.module}")
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            named = node.value in words or _backend_of(node.value) is not None
            if named and node not in docstrings:
                found.append(f"line {node.lineno} has {node.value!r}")
    return found


def test_a_backend_is_named_in_its_folder_alone() -> None:
    """A branch on a backend's name, suffix or classes needs its name as a value, or an import: both show here."""
    wrong = {}
    for name in modules():
        if name.startswith(("export", "runtime_tests")) and not _backend_of(name):
            found = _of_a_backend(name, tree(name))
            if bool(found) != (name in OF_ONE_BACKEND):
                wrong[name] = found or "is in OF_ONE_BACKEND for nothing"
    assert not wrong


@pytest.mark.parametrize(
    "text",
    [
        "if backend.name == 'onnx': pass",
        "if path.suffix in ('.tflite', '.lite'): pass",
        "import_module('export.tflite.runner')",
        "match name:\n    case 'tflite': pass",
        "TABLE = {'litert': 1}",
        "from onnxruntime import InferenceSession",
        "def f():\n    import ai_edge_litert.interpreter",
    ],
)
def test_what_counts_as_naming_a_backend(text: str) -> None:
    assert _of_a_backend("nowhere", ast.parse(text))
    assert not _of_a_backend("nowhere", ast.parse('"onnx"\nx = "a file of onnx"'))


@pytest.mark.parametrize("package", NO_RUNTIME)
def test_what_serves_all_runtimes_imports_none(package: str) -> None:
    for name in modules():
        if name.startswith(package):
            assert not {target.split(".")[0] for target in imports(name)} & RUNTIMES, name


def test_training_names_no_runtime() -> None:
    words = re.compile(r"QLinear|QGemm|XNNPACK|CONV_2D|FULLY_CONNECTED")
    found = [name for name, path in modules().items() if name.startswith("codeq") and words.search(path.read_text())]
    assert not found


def test_no_public_class_has_two_homes() -> None:
    """Networks aside: each file of models/ has blocks of its own, and is read alone."""
    homes: dict[str, list[str]] = defaultdict(list)
    for name in modules():
        if name.startswith("models."):
            continue
        for node in tree(name).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                homes[node.name].append(name)
    assert not {name: where for name, where in homes.items() if len(where) > 1}


def _reached(name: str) -> Iterator[tuple[str, str]]:
    """What importing a module imports, with who does: what stands in functions or under TYPE_CHECKING does not."""
    seen, waiting = {name}, [name]
    while waiting:
        current = waiting.pop()
        parents = [current.rsplit(".", n)[0] for n in range(1, current.count(".") + 1)]
        for target in {*imports(current, top_level_only=True), *parents}:
            if target in modules():
                if target not in seen:
                    seen.add(target)
                    waiting.append(target)
            else:
                yield current, target.split(".")[0]


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_starts_without_heavy_packages(command: str) -> None:
    assert not sorted({f"{who} imports {what}" for who, what in _reached(command) if what in HEAVY})


def test_the_packages_that_are_installed_are_those_of_the_tree() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    patterns = settings["packages"]["find"]["include"]
    folders = {path.parent for path in modules().values()} - {ROOT}
    missing = [folder for folder in folders if not (folder / "__init__.py").exists()]
    assert not missing
    tops = {folder.relative_to(ROOT).parts[0] for folder in folders}
    assert {pattern.rstrip("*") for pattern in patterns} == tops


def test_the_exporters_take_what_their_requests_define() -> None:
    """Keyword arguments of the public functions, their defaults included, are the fields of the requests."""
    import dataclasses
    import inspect

    from export import export_onnx, export_tflite
    from export.onnx.options import OnnxRequest
    from export.options import Quantization
    from export.tflite.options import TfliteRequest

    for function, kind in ((export_onnx, OnnxRequest), (export_tflite, TfliteRequest)):
        fields = {item.name: item.default for part in (Quantization, kind) for item in dataclasses.fields(part)}
        del fields["quantization"]
        parameters = inspect.signature(function).parameters.values()
        keywords = {item.name: item.default for item in parameters if item.kind is item.KEYWORD_ONLY}
        assert keywords == fields


def _mirror(path: Path) -> Path:
    """Where the tests of a module are: those of `python -m package` are those of its command."""
    name = "command" if path.stem == "__main__" else path.stem
    return Path("tests", path.parent, f"test_{name}.py")


def _mentions(text: str, module: str) -> bool:
    """Whether a test imports a module, or a name of it from one of its packages, or runs it with `python -m`."""
    public = {node.name for node in tree(module).body if isinstance(node, (ast.FunctionDef, ast.ClassDef))}
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and module in node.value.split():
            return True
        if isinstance(node, ast.Import) and any(alias.name == module for alias in node.names):
            return True
        if isinstance(node, ast.ImportFrom) and node.module:
            names = {alias.name for alias in node.names}
            if node.module == module or module in {f"{node.module}.{name}" for name in names}:
                return True
            if module.startswith(f"{node.module}.") and names & public:
                return True
    return False


def _untested(name: str, path: Path, tested_by: Mapping[str, str]) -> str:
    """Why a module does not count as tested; empty where it does."""
    entry = tested_by.get(path.as_posix())
    if (ROOT / _mirror(path)).exists():
        return f"has a mirror: take it out of tests/mirrors.py, where it says {entry!r}" if entry else ""
    if entry is None:
        return f"has no {_mirror(path)}, and no entry in tests/mirrors.py"
    words = entry.split()
    if not all(word.endswith(".py") for word in words):
        missing = [word for word in words if word.startswith("tests/") and not (ROOT / word).exists()]
        return f"names {missing[0]}, which is not there" if missing else "" if len(words) > 2 else "has no reason"
    for word in words:
        if not (ROOT / word).exists():
            return f"names {word}, which is not there"
        if not _mentions((ROOT / word).read_text(), name):
            return f"names {word}, which does not import it"
    return ""


def test_every_module_has_its_test() -> None:
    paths = {name: path.relative_to(ROOT) for name, path in modules().items() if path.name != "__init__.py"}
    wrong = {str(path): _untested(name, path, TESTED_BY) for name, path in paths.items()}
    gone = [path for path in TESTED_BY if path not in wrong]
    assert not [f"{path} {reason}" for path, reason in wrong.items() if reason]
    assert not gone, "modules that are gone stand in tests/mirrors.py"


@pytest.mark.parametrize(
    ("tested_by", "reason"),
    [
        ({}, "no entry"),
        ({"codeq/version.py": "a constant"}, "has no reason"),
        ({"codeq/version.py": "tests/test_nothing.py"}, "which is not there"),
        ({"codeq/version.py": "shown by tests/test_nothing.py alone"}, "which is not there"),
        ({"codeq/version.py": "tests/codeq/toolkit/test_suggest.py"}, "which does not import it"),
        ({"codeq/version.py": "tests/codeq/toolkit/test_versions.py"}, ""),
        ({"codeq/version.py": "one constant, nothing else"}, ""),
    ],
)
def test_what_counts_as_tested(tested_by: dict[str, str], reason: str) -> None:
    found = _untested("codeq.version", Path("codeq/version.py"), tested_by)
    assert (reason in found) if reason else not found


def test_an_entry_for_a_mirrored_module_must_go() -> None:
    entry = {"codeq/cost.py": "tests/codeq/test_cost.py"}
    assert "take it out" in _untested("codeq.cost", Path("codeq/cost.py"), entry)
