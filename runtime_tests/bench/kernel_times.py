"""This module measures the table that says what a network's int8 file takes with fewer channels.

Every layer is exported alone, as the network's file has it, with some numbers of its channels; layers of one shape are
measured once. Files are run in turn, a few runs each and several times, between runs of the whole file; medians count.
What the file takes beside its layers (sums, activation functions, copies) is shared out by the values that they make.
"""

import copy
import logging
import platform
import statistics
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from codeq.channels.kernel_times import KernelTimes, Latency, LayerTimes, tile_of
from codeq.channels.price import LATENCY_MARGIN
from codeq.channels.shrink import shrink
from codeq.channels.spaces import NONE, ChannelSpaces, find_spaces
from codeq.errors import KernelTimesError, first_line
from codeq.graph.inputs import Inputs, slice_inputs
from codeq.quantizer.attach import attach, detach, freeze, quantized_weights
from codeq.toolkit.table import fold_line
from export.backend import BACKENDS, Backend, get_backend
from export.errors import ExportError
from export.options import Quantization
from export.program.prepare import prepare_program
from runtime_tests.bench.inputs import random_inputs
from runtime_tests.bench.kernel_clock import Clock, onnxruntime_clock, time_runs, whole_clock
from runtime_tests.bench.latency import bench
from runtime_tests.bench.lone_layer import LoneLayer, lone_layers
from runtime_tests.options import BENCH_SECONDS, KERNEL_PASSES

logger = logging.getLogger(__name__)

TILE = 16
"""Channels that kernels compute at once, at most: of onnxruntime 16, of XNNPACK 8."""
SHARES = (0.25, 0.5, 0.75, 1.0)
"""Of a layer's channels, rounded to tiles; one tile beside them."""
RUNS = 8
"""So often every file is run each time that it is opened."""
WRITING = 0.3
"""Share of the progress that writing files counts."""
LONE: Mapping[str, Mapping[str, Any]] = {"onnx": {}, "tflite": {"io": "int8", "layout": "nhwc"}}
"""How the file of a single layer is asked for, so that a clock can tell the layer from the rest."""


@dataclass(frozen=True)
class LatencyCheck:
    """Holds a prediction next to what both files took in turn, in milliseconds."""

    predicted: Latency
    small_ms: float
    dense_ms: float
    rounds: int

    @property
    def measured_share(self) -> float:
        """Give what the small file took over what the dense one did."""
        return self.small_ms / self.dense_ms

    @property
    def error(self) -> float:
        """Say how far off the prediction is, of what was measured."""
        return self.predicted.share / self.measured_share - 1

    @property
    def ok(self) -> bool:
        """Say whether that is within LATENCY_MARGIN of price.py."""
        return abs(self.error) <= LATENCY_MARGIN

    def to_dict(self) -> dict[str, Any]:
        """Give everything with plain types."""
        return asdict(self) | {"measured_share": self.measured_share, "error": self.error, "ok": self.ok}

    def __str__(self) -> str:
        of_all = f"{self.measured_share:.1%} of the dense file's, {self.small_ms:.3g} of {self.dense_ms:.3g} ms"
        lines = [
            f"predicted {self.predicted}",
            f"measured  {of_all} (medians of {self.rounds} runs in turn)",
            f"so that the prediction is {self.error:+.1%} off",
        ]
        return "\n".join(fold_line(line, 10) for line in lines)


@dataclass(eq=False)
class _Files:
    """Holds the files of one call of a layer: by outputs and inputs where each is, and what its runs took."""

    layer: LoneLayer
    outputs: tuple[int, ...]
    inputs: tuple[int, ...]
    paths: dict[tuple[int, int], Path]
    times: dict[tuple[int, int], list[float]]

    def table(self) -> tuple[tuple[float, ...], ...]:
        """Give the medians, by outputs and inputs."""
        return tuple(tuple(statistics.median(self.times[one, other]) for other in self.inputs) for one in self.outputs)


def measure_kernel_times(
    model: nn.Module,
    inputs: Inputs,
    backend: Backend,
    *,
    bits: int = 8,
    threads: int = 1,
    passes: int = KERNEL_PASSES,
    on_progress: Callable[[float, str], None] = lambda share, detail: None,
) -> KernelTimes:
    """Measure a network's table, here and now.

    Args:
        model: Attached or plain; not changed. Its weights do not matter.
        inputs: Some dozens, batch first: grids of activations are chosen with them.
        backend: Whose files and runtime.
        bits: Of the weights. On x86 without VNNI 8 bits may need kernels that are slower.
        threads: Threads within an operator.
        passes: How often everything is run.
        on_progress: Called with the share done, 0 to 1, and what is going on.

    Raises:
        KernelTimesError: It has no channel that could go, or no layer that can be measured.
        ExportError: The network cannot be exported with int8 activations.
        TraceError: It cannot be traced.
    """
    dense = detach(copy.deepcopy(model)).eval()
    attach(dense, bits, granularity="channel", channels=True)
    spaces = find_spaces(dense, slice_inputs(inputs, slice(2)))
    if not spaces.count:
        raise KernelTimesError(f"{type(model).__name__} has no channel that could go; there is nothing to measure")
    freeze(dense)
    with tempfile.TemporaryDirectory(prefix="codeq-") as folder, torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        whole = Path(folder) / f"dense{backend.suffix}"
        on_progress(0.0, "exporting the network")
        _write(backend, dense, inputs, whole, {})
        empty, idle_times = Path(folder) / f"idle{backend.suffix}", list[float]()
        _write_empty(backend, empty, {})
        clock = _clock(backend, whole, threads, Path(folder))
        files = _write_layers(dense, inputs, spaces, backend, bits, Path(folder), on_progress)
        if not files:
            raise KernelTimesError(f"{backend.runtime} computes no layer of {type(model).__name__} in integers")
        runner = backend.open_runner(whole, threads=threads)
        runner.open()
        idle = backend.open_runner(empty, threads=threads)
        idle.open()
        given, nothing = random_inputs(runner, 1), random_inputs(idle, 1)
        whole_times: list[float] = []
        unique = list({id(call): call for calls in files.values() for call in calls}.values())
        steps = [call for _ in range(passes) for call in unique]
        for done, call in enumerate(steps):
            for counts, place in call.paths.items():
                call.times[counts] += clock(place, call.layer.shape[0], RUNS)
            whole_times += time_runs(runner, given, RUNS)  # warm, as the layers are
            idle_times += time_runs(idle, nothing, RUNS)
            on_progress(1 - (1 - WRITING) * (1 - (done + 1) / len(steps)), "measuring")
        dense_ms = statistics.median(whole_times)
        fixed_ms = min(statistics.median(idle_times), dense_ms)
    return KernelTimes(
        layers=_share_out(dense_ms - fixed_ms, files),
        dense_ms=dense_ms,
        fixed_ms=fixed_ms,
        untimed=tuple(layer.name for layer in spaces.layers if layer.name not in files),
        tile=TILE,
        runtime=backend.runtime.lower(),
        runtime_version=runner.version,
        processor=processor_name(),
        threads=threads,
        bits=bits,
    )


def backend_of_table(times: KernelTimes) -> Backend:
    """Give the backend whose runtime a table was measured in.

    Raises:
        KernelTimesError: There is none of that name.
    """
    backends = {backend.runtime.lower(): backend for backend in map(get_backend, BACKENDS)}
    if times.runtime not in backends:
        raise KernelTimesError(f"the table is of {times.runtime}, expected {' or '.join(backends)}")
    return backends[times.runtime]


def check_kernel_times(
    times: KernelTimes, model: nn.Module, inputs: Inputs, backend: Backend, *, seconds: float = BENCH_SECONDS
) -> LatencyCheck:
    """Hold a table's prediction against the files of a network, with its dead channels and without.

    Args:
        times: The table; files are run with its number of threads.
        model: Attached; not changed.
        inputs: As for `measure_kernel_times`.
        backend: Whose files and runtime.
        seconds: About how long both are run.

    Raises:
        KernelTimesError: The table is of another network, or this one is not attached.
        ExportError: It cannot be exported with int8 activations.
    """
    if not any(True for _ in quantized_weights(model)):
        raise KernelTimesError(
            f"{type(model).__name__} is not attached: a table is held against a network that was trained or compressed"
        )
    find_spaces(model, slice_inputs(inputs, slice(2))).timed(times)  # it is of this network
    small = shrink(model, slice_inputs(inputs, slice(2)), fold_constants=False).model
    predicted = times.of_network(small)
    with tempfile.TemporaryDirectory(prefix="codeq-") as folder:
        paths = [Path(folder) / f"{name}{backend.suffix}" for name in ("dense", "small")]
        for network, path in zip((model, small), paths, strict=True):
            _write(backend, network, inputs, path, {})
        found = bench(paths, threads=times.threads, seconds=seconds)
    dense, little = (result.latency_ms for result in found.results)
    return LatencyCheck(predicted, little, dense, found.rounds)


def _share_out(taken_ms: float, files: Mapping[str, list[_Files]]) -> dict[str, LayerTimes]:
    """Share out what the network takes beside its layers, by the values that these make."""
    tables = {name: np.sum([call.table() for call in calls], axis=0) for name, calls in files.items()}
    alone = sum(float(table[-1, -1]) for table in tables.values())
    fits = min(1.0, taken_ms / alone) if alone else 1.0  # layers alone cannot take longer than all of it
    values = {name: sum(call.layer.values for call in calls) for name, calls in files.items()}
    rest = max(taken_ms - alone, 0.0) / sum(values.values())
    return {
        name: LayerTimes(
            calls[0].outputs, calls[0].inputs, tuple(map(tuple, (fits * tables[name]).tolist())), rest * values[name]
        )
        for name, calls in files.items()
    }


def _write_layers(
    dense: nn.Module,
    inputs: Inputs,
    spaces: ChannelSpaces,
    backend: Backend,
    bits: int,
    folder: Path,
    on_progress: Callable[[float, str], None],
) -> dict[str, list[_Files]]:
    """Write the files of all layers, once for those of one shape: by the weights' names, of every call."""
    layers = lone_layers(dense, inputs)
    known: dict[tuple[Any, ...], _Files | None] = {}
    found = {}
    for number, places in enumerate(spaces.layers):
        on_progress(WRITING * number / len(spaces.layers), f"exporting {places.name}")
        calls = []
        for layer in layers[places.name]:
            outputs = _numbers(layer.outputs, (places.outputs != NONE).any(), layer)
            reads = places.inputs is not None and (places.inputs != NONE).any()
            numbers = _numbers(layer.inputs, reads, None)
            key = (layer, outputs, numbers)
            if key not in known:
                known[key] = _write_layer(layer, outputs, numbers, backend, bits, folder / str(len(known)))
            calls.append(known[key])
        timed = [call for call in calls if call is not None]
        if len(timed) == len(calls):
            found[places.name] = timed
    return found


def _write_layer(
    layer: LoneLayer, outputs: tuple[int, ...], inputs: tuple[int, ...], backend: Backend, bits: int, folder: Path
) -> _Files | None:
    """Write the files of one layer; None where its kind cannot be exported alone."""
    folder.mkdir()
    paths = {}
    for one in outputs:
        for other in inputs:
            module, x = layer.build(one, other)
            attach(module, bits, granularity="channel")
            freeze(module)
            paths[one, other] = folder / f"{one}-{other}{backend.suffix}"
            try:
                _write(backend, module, x if len(x) > 1 else torch.cat([x, x]), paths[one, other], LONE[backend.name])
            except ExportError as error:
                logger.debug("a layer alone: %s", first_line(error))
                return None
    return _Files(layer, outputs, inputs, paths, {counts: [] for counts in paths})


def _write(backend: Backend, model: nn.Module, inputs: Inputs, path: Path, options: Mapping[str, Any]) -> None:
    quantization = Quantization(activations="int8", calibration=inputs)
    request = backend.request(quantization=quantization, **options)
    one = slice_inputs(inputs, slice(2))
    backend.write(prepare_program(model, one, quantization, quantize_outputs=bool(options)), request, path)


def _numbers(size: int, mortal: bool, layer: LoneLayer | None) -> tuple[int, ...]:
    """Choose the numbers of channels to measure."""
    if not mortal:
        return (size,)
    step = tile_of(size, TILE)
    if layer is not None and layer.groups > 1:
        step = int(np.lcm(step, layer.group_size))
    counts = {min(size, max(step, round(size * share / step) * step)) for share in SHARES}
    return tuple(sorted(counts | {min(step, size)}))


def _clock(backend: Backend, whole: Path, threads: int, folder: Path) -> Clock:
    if backend.name == "onnx":
        return onnxruntime_clock(backend.read(whole).metadata.session_options or {}, threads)
    empty = folder / f"empty{backend.suffix}"
    _write_empty(backend, empty, LONE[backend.name])
    return whole_clock(threads, empty)


def _write_empty(backend: Backend, path: Path, options: Mapping[str, Any]) -> None:
    """Write a file with next to no work."""
    module = nn.Conv2d(1, 1, 1).eval()
    attach(module)
    freeze(module)
    _write(backend, module, torch.randn(2, 1, 1, 1), path, options)


def processor_name() -> str:
    """Name this machine's processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
