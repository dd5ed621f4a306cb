"""A table says what the kernels of a runtime take for every layer of a network, at some numbers of its channels.

It is measured where the network will run (runtime_tests/kernel_times) and read where it is trained. Between the numbers
that were measured it is interpolated; what a file takes beside its layers counts with the outputs that these make.
"""

import hashlib
import itertools
import json
import math
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from codeq.errors import KernelTimesError, first_line
from codeq.quantizer.attach import weight_name
from codeq.toolkit.files import check_ordinary, replace_atomically
from codeq.toolkit.table import fold_line, format_count, render_table

FORMAT = "codeq kernel times"
VERSION = 1
LARGEST = 2**31
MAX_THREADS = 1024
QUARTERS = 4
EXPECTED = "a table that python -m runtime_tests.kernel_times wrote"


@dataclass(frozen=True)
class LayerTimes:
    """Holds what one layer takes.

    Attributes:
        outputs, inputs: Numbers of channels that it was measured with, rising; the last ones are all there are. Inputs
            of convolutions in groups go with their outputs: one number.
        milliseconds: By outputs and inputs.
        others: Milliseconds of what follows the layer, with all outputs: sums, activation functions, normalisation.
    """

    outputs: tuple[int, ...]
    inputs: tuple[int, ...]
    milliseconds: tuple[tuple[float, ...], ...]
    others: float = 0.0

    def at(self, outputs: float, inputs: float) -> float:
        """Interpolate what it takes, in milliseconds.

        Args:
            outputs, inputs: Shares of the channels that live, in [0, 1].
        """
        reads, makes = inputs * self.inputs[-1], outputs * self.outputs[-1]
        columns = [float(np.interp(reads, self.inputs, row)) for row in self.milliseconds]
        return float(np.interp(makes, self.outputs, columns)) + self.others * outputs


@dataclass(frozen=True)
class Latency:
    """Says what a file will take by a table, in milliseconds, next to the file with all channels.

    Attributes:
        predicted_ms, dense_ms: Of both files; the second was measured.
        where: By whose kernels.
    """

    predicted_ms: float
    dense_ms: float
    where: str

    @property
    def share(self) -> float:
        """Give the first over the second."""
        return self.predicted_ms / self.dense_ms

    def __str__(self) -> str:
        return f"{self.share:.1%} of the dense file's, {self.predicted_ms:.3g} of {self.dense_ms:.3g} ms ({self.where})"


@dataclass(frozen=True)
class KernelTimes:
    """Holds a network's table.

    Attributes:
        layers: By the names of their weights.
        dense_ms: What the int8 file with all channels takes.
        fixed_ms: What a call of a file with next to no work takes: that much is left whatever dies.
        untimed: Names of the weights that have no times: what those layers take is shared out among the others.
        tile: So many channels a kernel computes at once: numbers between take about as long as the next multiple.
        runtime, runtime_version, processor, threads, bits: What was measured.
    """

    layers: Mapping[str, LayerTimes]
    dense_ms: float
    fixed_ms: float
    untimed: tuple[str, ...]
    tile: int
    runtime: str
    runtime_version: str
    processor: str
    threads: int
    bits: int

    @property
    def where(self) -> str:
        """Say what was measured, in a few words."""
        threads = format_count(self.threads, "thread")
        return f"{self.runtime} {self.runtime_version}, {threads}, {self.processor}"

    @property
    def digest(self) -> str:
        """Give a SHA-256 of all of it."""
        return hashlib.sha256(json.dumps(self.to_dict(), sort_keys=True).encode()).hexdigest()

    def check_sizes(self, sizes: Mapping[str, tuple[int, int | None]]) -> None:
        """See that the table is of a network with all its channels.

        Args:
            sizes: By weight name, output and input channels; None for inputs that go with the outputs.

        Raises:
            KernelTimesError: It is of another one.
        """
        another = "the kernel times are of another network"
        known = {*self.layers, *self.untimed}
        for name in (*sorted(known - set(sizes)), *sorted(set(sizes) - known)):
            raise KernelTimesError(f"{another}: {name} is in {'the table' if name in known else 'the network'} alone")
        for name, layer in self.layers.items():
            made, read = sizes[name]
            for what, found, measured in (("outputs", made, layer.outputs), ("inputs", read, layer.inputs)):
                if found not in (None, measured[-1]):
                    raise KernelTimesError(f"{another}: {name} has {found} {what} here and {measured[-1]} there")

    def predict(self, sizes: Mapping[str, tuple[int, int | None]]) -> Latency:
        """Say what a file will take.

        Args:
            sizes: By weight name, output and input channels that are left; as for `check_sizes`.

        Raises:
            KernelTimesError: A layer of the table is missing, or larger.
        """
        total = self.fixed_ms
        for name, layer in self.layers.items():
            made, read = sizes.get(name, (0, None))
            read = layer.inputs[-1] if read is None else read
            if not 0 < made <= layer.outputs[-1] or read > layer.inputs[-1]:
                raise KernelTimesError(f"the kernel times are of another network: this one has no such weight {name}")
            total += layer.at(made / layer.outputs[-1], read / layer.inputs[-1])
        return Latency(total, self.dense_ms, self.where)

    def of_network(self, model: nn.Module) -> Latency:
        """Say what the file of a network will take, attached or plain, whose dead channels were taken out."""
        return self.predict(layer_sizes(model))

    def to_dict(self) -> dict[str, Any]:
        """Give everything with plain types."""
        return {"format": FORMAT, "version": VERSION, **asdict(self)}

    def __str__(self) -> str:
        header = ("layer", "outputs", "inputs", "takes", "with half of them", "what follows")
        rows = [
            (
                name.removesuffix(".weight"),
                str(layer.outputs[-1]),
                str(layer.inputs[-1]),
                f"{layer.milliseconds[-1][-1]:.3f} ms",
                f"{layer.at(0.5, 0.5) - layer.others / 2:.3f} ms",
                f"{layer.others:.3f} ms",
            )
            for name, layer in self.layers.items()
        ]
        of_it = f"all of it takes {self.dense_ms:.3f} ms, a call alone {self.fixed_ms:.3f} ms"
        total = f"{of_it}: {self.where}, {self.bits} bits"
        return f"{render_table(header, rows)}\n{fold_line(total, 2)}"

    def write(self, path: Path) -> None:
        """Write the table as JSON."""
        with replace_atomically(path) as temporary:
            temporary.write_text(json.dumps(self.to_dict(), indent=1) + "\n")


def layer_sizes(model: nn.Module) -> dict[str, tuple[int, int | None]]:
    """Give the output and input channels of a network's layers by the names of their weights, for `predict`."""
    sizes: dict[str, tuple[int, int | None]] = {}
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear):
            sizes[weight_name(name, "weight")] = module.out_features, module.in_features
        elif isinstance(module, nn.modules.conv._ConvNd):
            inputs = module.in_channels if module.groups == 1 else None
            sizes[weight_name(name, "weight")] = module.out_channels, inputs
    return sizes


def tile_of(channels: int, tile: int) -> int:
    """Say by how many the channels of a layer go: by those a kernel computes at once, and by a quarter of few."""
    return max(1, min(tile, 2 ** int(math.log2(max(channels // QUARTERS, 1)))))


def read_kernel_times(path: str | os.PathLike[str]) -> KernelTimes:
    """Read a table.

    Raises:
        KernelTimesError: It cannot be read, or is none.
    """
    source = Path(path)
    check_ordinary(source, EXPECTED, KernelTimesError)
    try:
        table = json.loads(source.read_text())
    except (OSError, ValueError, RecursionError) as error:
        raise KernelTimesError(f"cannot read {source}: {getattr(error, 'strerror', None) or 'no JSON'}") from error
    if not isinstance(table, dict) or table.get("format") != FORMAT:
        raise KernelTimesError(f"{source} is not {EXPECTED}")
    if table.get("version") != VERSION:
        raise KernelTimesError(f"{source} has version {table.get('version')!r}, expected {VERSION}; measure it again")
    try:
        return _parse(table)
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise KernelTimesError(f"{source} is damaged ({first_line(error)}); measure it again") from error


def _parse(table: dict[str, Any]) -> KernelTimes:
    layers = {}
    for name, layer in table["layers"].items():
        outputs, inputs = (tuple(map(_count, layer[side])) for side in ("outputs", "inputs"))
        milliseconds = tuple(tuple(map(_time, row)) for row in layer["milliseconds"])
        if not _rises(outputs) or not _rises(inputs) or not milliseconds:
            raise ValueError(f"{name}: numbers of channels that do not rise")
        if len(milliseconds) != len(outputs) or {len(row) for row in milliseconds} != {len(inputs)}:
            raise ValueError(f"{name}: expected {len(outputs)} x {len(inputs)} times")
        layers[name] = LayerTimes(outputs, inputs, milliseconds, _time(layer["others"]))
    if not any(layer.at(1.0, 1.0) for layer in layers.values()):
        raise ValueError("no layer takes time")
    if not table["dense_ms"]:
        raise ValueError("the network takes no time")
    return KernelTimes(
        layers,
        _time(table["dense_ms"]),
        _time(table["fixed_ms"]),
        untimed=tuple(map(str, table["untimed"])),
        tile=_count(table["tile"]),
        runtime=str(table["runtime"]),
        runtime_version=str(table["runtime_version"]),
        processor=str(table["processor"]),
        threads=_count(table["threads"], MAX_THREADS),
        bits=_count(table["bits"]),
    )


def _rises(counts: tuple[int, ...]) -> bool:
    return bool(counts) and all(one < other for one, other in itertools.pairwise(counts))


def _count(value: Any, most: int = LARGEST) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 < value <= most:
        raise ValueError(f"{value!r} is no number of channels, threads or bits")
    return value


def _time(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < LARGEST:
        raise ValueError(f"{value!r} is no time in milliseconds")
    return float(value)
