"""Every runtime computes what PyTorch does, from the same inputs, at any batch; and says nothing on the way."""

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch import Tensor

import codeq
from export import export_onnx
from export.backend import get_backend
from export.errors import ExportError
from export.parity.outputs import RELATIVE_TOLERANCE
from export.program.prepare import rebuild_program
from export.runner import run_batches
from runtime_tests.runners import runtime as module
from runtime_tests.runners.registry import all_runtimes, open_runner, runtimes_for
from runtime_tests.runners.runtime import is_installed

RUNTIMES = all_runtimes()


def has_vnni() -> bool:
    """Whether the processor sums u8 x s8 in 32 bits; of no other than Linux's it is taken for granted."""
    info = Path("/proc/cpuinfo")
    flags = re.findall(r"^flags.*", info.read_text(), re.MULTILINE) if info.exists() else []
    return not flags or bool(re.search(r"avx512_vnni|avx_vnni", flags[0]))


NEEDS = {
    name: pytest.mark.skipif(not is_installed(RUNTIMES[name]), reason=f"{name} is an extra: pip install '.[{extra}]'")
    for name, extra in (("litert", "tflite"), ("openvino", "openvino"))
}
STORAGES = ["dense", "sparse", "packed"]
SHOWN = [("sparse", "onnxruntime"), ("packed", "portable")]
"""Files of the tier `test`; the others are in `full`."""


@pytest.fixture(scope="module")
def network(checkpoint_path: Path) -> tuple[Any, Tensor, np.ndarray]:
    loaded = codeq.load(checkpoint_path)
    x = loaded.held_inputs
    assert x is not None
    return loaded.model, x, loaded.model.eval()(x).detach().numpy()


def hold(path: Path, runtime: str, x: Tensor, expected: np.ndarray) -> Any:
    """Open a file and hold it to PyTorch at batches of 1, 3 and all."""
    runner = open_runner(path, runtime=RUNTIMES[runtime], threads=1)
    for size in (1, 3, len(x)):
        (found,) = run_batches(runner, (x,), size)
        assert np.abs(found - expected).max() <= RELATIVE_TOLERANCE * np.abs(expected).max()
        assert (found.argmax(1) == expected.argmax(1)).all()
    return runner


@pytest.mark.slow("OpenVINO compiles the file")
@NEEDS["openvino"]
@pytest.mark.parametrize(
    ("storage", "target"),
    [
        pytest.param(storage, target, marks=[] if (storage, target) in SHOWN else pytest.mark.full)
        for storage in STORAGES
        for target in ("onnxruntime", "portable")
        if (storage, target) != ("sparse", "portable")  # a portable file has no sparse initializers
    ],
)
def test_openvino_computes_what_pytorch_does(network: Any, storage: Any, target: Any, tmp_path: Path) -> None:
    model, x, expected = network
    export_onnx(model, (x[:2],), tmp_path / "net.onnx", storage=storage, target=target, check_inputs=(x[:3],))
    runner = hold(tmp_path / "net.onnx", "openvino", x, expected)
    # What it reads as it is: plain initializers, and decoders of operators it knows.
    assert bool(runner.note) == (storage != "dense" and target != "portable")


@NEEDS["openvino"]
@pytest.mark.full
def test_openvino_quantizes_inputs_of_linear_layers_unless_told(network: Any, tmp_path: Path) -> None:
    """Why the runner sets DYNAMIC_QUANTIZATION_GROUP_SIZE."""
    model, x, expected = network
    export_onnx(model, (x[:2],), tmp_path / "net.onnx", storage="dense", check_inputs=(x[:3],))
    from runtime_tests.runners.openvino_runner import openvino

    core = openvino().Core()
    settings = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1}
    compiled = core.compile_model(core.read_model(str(tmp_path / "net.onnx")), "CPU", settings)
    error = np.abs(compiled(x.numpy())[0] - expected).max()
    if error <= RELATIVE_TOLERANCE * np.abs(expected).max():
        pytest.skip("this processor has no kernel that would")
    assert error < 0.1 * np.abs(expected).max()


@pytest.mark.slow("OpenVINO compiles the file")
@NEEDS["openvino"]
@pytest.mark.skipif(not has_vnni(), reason="OpenVINO adds two products in 16 bits on this processor, which saturates")
def test_openvinos_codes_are_the_references_up_to_ties(network: Any, tmp_path: Path) -> None:
    from export.parity.codes import TIE_DISTANCE, Substitute

    model, x, _ = network
    path = tmp_path / "net.onnx"
    export_onnx(model, (x[:2],), path, check_inputs=(x[:3],), activations="int8", calibration=x)
    backend = get_backend("onnx")
    grids = backend.read(path).metadata.activations
    assert grids is not None
    names = tuple(grids)
    runner = open_runner(path, runtime=RUNTIMES["openvino"], threads=1, look_at=names)
    found = run_batches(runner, (x,), 4)[-len(names) :]
    counts: dict[str, Any] = {}
    fed = dict(zip(names, found, strict=True))
    backend.reference(rebuild_program(model, (x,), grids)).outputs(x, on_codes=Substitute(fed, counts))
    assert set(counts) == set(names)
    assert all(count.max_step <= 1 and count.tie_distance <= TIE_DISTANCE for count in counts.values())


@NEEDS["openvino"]
@pytest.mark.full
def test_openvino_adds_before_it_rounds(network: Any, tmp_path: Path) -> None:
    model, x, _ = network
    path = tmp_path / "net.onnx"
    export_onnx(model, (x[:2],), path, check_inputs=(x[:3],), activations="int8", calibration=x)
    openvino = RUNTIMES["openvino"]
    stored = openvino.backend.read(path)
    grids = stored.metadata.activations
    assert grids is not None
    runner = open_runner(path, runtime=openvino, threads=1)
    program = rebuild_program(model, (x,), grids)
    computed = openvino.computed(stored, runner, program)
    fused = computed.fused
    if not fused:
        pytest.skip("on this processor no addition is fused with a convolution")
    assert fused == {"block1.conv2", "block2.conv2", "block3.conv2"}
    assert all(computed.kernels[name] == "Convolution with Add" for name in fused)
    reference = openvino.backend.reference(program)
    (found,) = run_batches(runner, (x,), len(x))
    largest = float(np.abs(found).max())

    def off(outputs: np.ndarray) -> int:
        return int((np.abs(found - outputs).max(1) > RELATIVE_TOLERANCE * largest).sum())

    assert off(openvino.outputs_by_rule(reference, (x,), grids, fused)[0].numpy()) <= len(x) // 8  # ties
    assert off(reference.outputs(x)[0].numpy()) > len(x) // 2


@NEEDS["openvino"]
@pytest.mark.slow("a process of its own imports OpenVINO and torch")
@pytest.mark.full
def test_openvino_sends_nothing_and_prints_nothing(network: Any, tmp_path: Path) -> None:
    model, x, _ = network
    export_onnx(model, (x[:2],), tmp_path / "net.onnx", check_inputs=(x[:3],))
    script = (
        "import sys, socket\n"
        "def refuse(*a, **k): raise AssertionError('a connection')\n"
        "socket.socket.connect = refuse\n"
        "from pathlib import Path\n"
        "from runtime_tests.runners.registry import all_runtimes, open_runner\n"
        f"open_runner(Path({str(tmp_path / 'net.onnx')!r}), runtime=all_runtimes()['openvino'])\n"
        "assert not [name for name in sys.modules if name.startswith('openvino_telemetry.')]\n"
        "print(sys.modules['openvino_telemetry'])\n"
    )
    root = str(Path(__file__).parents[3])
    environment = {"PATH": "", "HOME": str(tmp_path), "PYTHONPATH": root}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=environment, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "None\n", "")
    assert not (tmp_path / "intel").exists()  # where it keeps the number that it knows a user by


@NEEDS["litert"]
@pytest.mark.parametrize("channels_last", [False, True])
def test_litert_computes_what_pytorch_does(network: Any, channels_last: bool, tmp_path: Path) -> None:
    from export.tflite import export_tflite

    model, x, expected = network
    path = tmp_path / "net.tflite"
    export_tflite(model, (x[:2],), path, check_inputs=(x[:3],), layout="nhwc" if channels_last else "nchw")
    runner = hold(path, "litert", x, expected)
    assert runner.inputs[0].shape == (None, 1, 8, 8)


@NEEDS["litert"]
@pytest.mark.full
def test_codes_of_both_formats_are_in_pytorchs_order(network: Any, tmp_path: Path) -> None:
    from export.tflite import export_tflite

    model, x, _ = network
    paths = [tmp_path / "net.onnx", tmp_path / "net.tflite"]
    for path, export in zip(paths, (export_onnx, export_tflite), strict=True):
        run: Callable[..., Any] = export
        run(model, (x[:2],), path, check_inputs=(x[:3],), activations="int8", calibration=x)
    names = ("input", "block1.conv1", "pool")
    ours, theirs = (run_batches(open_runner(path, look_at=names), (x,), 3)[1:] for path in paths)
    for first, second in zip(ours, theirs, strict=True):
        assert first.dtype == second.dtype == np.uint8
        assert np.array_equal(first, second)


def test_which_runtime_takes_which_file(tmp_path: Path) -> None:
    def names(path: Path) -> list[str]:
        return [runtime.name for runtime in runtimes_for(path)]

    assert names(tmp_path / "a.onnx") == ["onnxruntime", "openvino"]
    assert names(tmp_path / "a.tflite") == ["litert"]
    (tmp_path / "unnamed").write_bytes(b"\x1c\x00\x00\x00TFL3" + bytes(40))
    assert names(tmp_path / "unnamed") == ["litert"]


def test_openvino_is_missing(monkeypatch: pytest.MonkeyPatch, network: Any, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(ExportError, match=r"pip install '.\[openvino\]'"):
        open_runner(tmp_path / "net.onnx", runtime=RUNTIMES["openvino"])


def test_installed_follows_the_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    assert is_installed(RUNTIMES["onnxruntime"])
    asked = []
    monkeypatch.setattr(module, "find_spec", asked.append)
    assert not any(map(is_installed, RUNTIMES.values()))
    assert asked == ["onnxruntime", "ai_edge_litert", "openvino"]
