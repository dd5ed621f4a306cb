"""What kernels take is measured for every layer that has channels to lose, and held against whole files."""

import copy
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import codeq
from codeq.channels.kernel_times import KernelTimes, LayerTimes, read_kernel_times
from codeq.channels.spaces import find_spaces
from codeq.errors import KernelTimesError
from export.backend import get_backend
from runtime_tests.bench.kernel_times import check_kernel_times, measure_kernel_times
from runtime_tests.bench.latency import BenchReport
from tests.reports import timed


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.Flatten(),
        nn.Linear(32 * 36, 4),
    ).eval()  # fmt: skip


X = torch.randn(4, 3, 6, 6, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Measure a layer with one tile, half and all of its channels."""
    monkeypatch.setattr("runtime_tests.bench.kernel_times.SHARES", (0.5, 1.0))


@pytest.mark.usefixtures("few")
@pytest.mark.parametrize(
    "backend", [pytest.param("onnx", marks=pytest.mark.slow("exports fifteen layers by torch.onnx")), "tflite"]
)
def test_every_layer_is_measured_with_fewer_channels(backend: str) -> None:
    model = network()
    before = copy.deepcopy(model.state_dict())
    shares: list[float] = []
    times = measure_kernel_times(
        model, X, get_backend(backend), passes=1, on_progress=lambda share, detail: shares.append(share)
    )
    assert list(times.layers) == ["0.weight", "2.weight", "5.weight"]
    first, second, last = times.layers.values()
    assert (first.outputs, first.inputs) == ((4, 8, 16), (3,))
    assert (second.outputs, second.inputs) == ((8, 16, 32), (4, 8, 16))
    assert (last.outputs, last.inputs[-1]) == ((4,), 32 * 36)
    assert len(second.milliseconds) == 3
    assert all(len(row) == 3 for row in second.milliseconds)
    assert second.milliseconds[-1][-1] > 0
    assert 0 < times.fixed_ms <= times.dense_ms
    total = times.fixed_ms + sum(layer.milliseconds[-1][-1] + layer.others for layer in times.layers.values())
    assert total == pytest.approx(times.dense_ms)
    assert times.predict({name: (x.outputs[-1], x.inputs[-1]) for name, x in times.layers.items()}).share == (
        pytest.approx(1.0)
    )
    assert times.bits == 8
    assert times.threads == 1
    assert shares == sorted(shares)
    assert shares[-1] == 1.0
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_other_networks_are_refused() -> None:
    layers = {"0.weight": LayerTimes((16,), (3,), ((1.0,),))}
    times = KernelTimes(layers, 6.0, 0.0, ("2.weight", "5.weight"), 16, "onnxruntime", "1.31.1", "a processor", 1, 8)
    with pytest.raises(KernelTimesError, match="Sequential is not attached: a table is held against"):
        check_kernel_times(times, network(), X, get_backend("onnx"))
    other = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 4, 3)).eval()
    codeq.attach(other, 8)
    with pytest.raises(KernelTimesError, match=r"of another network: 5\.weight is in the table alone"):
        check_kernel_times(times, other, X, get_backend("onnx"))


def test_nothing_to_lose_is_refused() -> None:
    with pytest.raises(KernelTimesError, match="Sequential has no channel that could go"):
        measure_kernel_times(nn.Sequential(nn.Flatten(), nn.Linear(108, 4)), X, get_backend("onnx"))


def test_a_prediction_is_held_against_both_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """Latencies are made up: what is tested is what is compared."""
    sizes_of = {"0.weight": (16, 3), "2.weight": (32, 16), "5.weight": (4, 32 * 36)}
    layers = {name: LayerTimes((made,), (read,), ((1.0,),), others=1.0) for name, (made, read) in sizes_of.items()}
    times = KernelTimes(layers, 6.0, 0.0, (), 16, "onnxruntime", "1.31.1", "a processor", 1, 8)
    model = network()
    codeq.attach(model, 8, channels=True)
    spaces = find_spaces(model, X)
    live = spaces.space != 0
    live[0] = True  # of the first space one channel
    spaces.let_live(model, live)
    codeq.freeze(model)
    sizes: list[int] = []

    def bench(paths: list[Path], **options: Any) -> BenchReport:
        sizes.extend(path.stat().st_size for path in paths)
        found = [replace(timed(str(path)), latency_ms=taken) for path, taken in zip(paths, (10.0, 8.0), strict=True)]
        return BenchReport(tuple(found), 1, 1, 100, {})

    monkeypatch.setattr("runtime_tests.bench.kernel_times.bench", bench)
    check = check_kernel_times(times, model, X, get_backend("onnx"))
    predicted = (3 + 1 + 1 + 1 / 16) / 6
    assert check.predicted.share == pytest.approx(predicted)
    assert check.measured_share == 0.8
    assert check.error == pytest.approx(predicted / 0.8 - 1)
    assert check.ok == (abs(check.error) <= 0.1)
    assert sizes[0] > sizes[1]  # the second one has lost channels
    assert "8 of 10 ms" in str(check)


@pytest.mark.slow("exports every layer of a network with several numbers of channels")
def test_the_command(run_command: Any, checkpoint_path: Path, tmp_path: Path) -> None:
    table = tmp_path / "times.json"
    done = run_command("runtime_tests.kernel_times", checkpoint_path, "-o", table, "--passes", 1, "--backend", "tflite")
    assert done.returncode == 0, done.stderr
    assert "stage" in done.stdout or "conv1" in done.stdout
    times = read_kernel_times(table)
    assert isinstance(times, KernelTimes)
    assert times.runtime == "litert"
    again = run_command("runtime_tests.kernel_times", checkpoint_path, "-o", table)
    assert again.returncode == 2
    assert "exists; use --force" in again.stderr
    checked = run_command(
        "runtime_tests.kernel_times", checkpoint_path, "--check", table, "--seconds", 0, "--json", "-"
    )
    assert checked.returncode in (0, 1), checked.stderr
    values = json.loads(checked.stdout)
    assert values["format_version"] == 1
    assert values["ok"] == (checked.returncode == 0)
    assert values["measured_share"] == values["small_ms"] / values["dense_ms"]
