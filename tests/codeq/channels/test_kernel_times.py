"""A table of kernel times is read as it was written, and what it predicts is between what was measured."""

import copy
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import codeq
from codeq.channels.kernel_times import KernelTimes, LayerTimes, read_kernel_times, tile_of
from codeq.channels.price import LEAST_SHARE, affordable, least_cost
from codeq.channels.shrink import shrink
from codeq.channels.spaces import ChannelSpaces
from codeq.errors import KernelTimesError
from tests.codeq.channels.networks import Residual
from tests.codeq.channels.tables import table_of

X = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))


def test_it_is_read_as_it_was_written(spaces: ChannelSpaces, tmp_path: Path) -> None:
    times = table_of(spaces)
    times.write(tmp_path / "times.json")
    assert read_kernel_times(tmp_path / "times.json") == times


def test_between_what_was_measured_it_is_linear() -> None:
    layer = LayerTimes((8, 16), (4, 8), ((1.0, 2.0), (3.0, 6.0)), others=10.0)
    assert layer.at(1.0, 1.0) == 16.0
    assert layer.at(0.75, 0.75) == pytest.approx((1 + 2 + 3 + 6) / 4 + 7.5)
    assert layer.at(0.25, 0.5) == 1.0 + 2.5  # fewer than any that was measured take as long as those
    grouped = LayerTimes((8, 16), (16,), ((1.0,), (3.0,)))
    assert grouped.at(0.75, 0.1) == 2.0


def test_what_is_counted_is_what_is_predicted_for_the_smaller_network(spaces: ChannelSpaces) -> None:
    times = table_of(spaces)
    timed = spaces.timed(times)
    everything = np.ones(spaces.count, bool)
    assert timed.cost(everything) == pytest.approx(times.dense_ms)
    torch.manual_seed(0)
    network = Residual()
    codeq.attach(network, 8, channels=True)
    live = affordable(timed, np.random.default_rng(0).random(spaces.count), 0.5 * times.dense_ms)
    timed.let_live(network, live)
    small = shrink(network, X, fold_constants=False).model
    assert times.of_network(small).predicted_ms == pytest.approx(timed.cost(live))
    assert times.of_network(small).share == pytest.approx(timed.cost(live) / times.dense_ms)


@pytest.mark.parametrize("share", [0.4, 0.6, 0.8])
@pytest.mark.parametrize("tile", [2, 4, 16])
def test_channels_go_by_tiles_and_the_best_stay(spaces: ChannelSpaces, share: float, tile: int) -> None:
    timed = spaces.timed(table_of(spaces, tile=tile))
    worth = np.random.default_rng(0).random(spaces.count)
    everything = np.ones(spaces.count, bool)
    wanted = share * timed.cost(everything)
    live = affordable(timed, worth, wanted)
    for number, size in enumerate(timed.tiles):
        members = timed.space == number
        left = int(live[members].sum())
        assert left % size == 0 or left == members.sum()
        assert left >= max(1, LEAST_SHARE * members.sum())
        assert worth[members & ~live].max(initial=0) <= worth[members & live].min()
    largest = max(
        timed.cost(everything) - timed.cost(~((timed.space == number) & (np.cumsum(timed.space == number) <= size)))
        for number, size in enumerate(timed.tiles)
    )
    assert abs(timed.cost(live) - wanted) <= largest or timed.cost(live) == least_cost(timed)


def test_tiles_of_few_channels_are_smaller() -> None:
    assert [tile_of(count, 16) for count in (1, 3, 8, 16, 24, 32, 63, 64, 512)] == [1, 1, 2, 4, 4, 8, 8, 16, 16]
    assert tile_of(512, 1) == 1


def test_a_marginal_cost_is_a_part_of_what_a_tile_costs(spaces: ChannelSpaces) -> None:
    timed = spaces.timed(table_of(spaces))
    live = np.ones(spaces.count, bool)
    for number, size in enumerate(timed.tiles):
        members = np.flatnonzero(timed.space == number)
        without = live.copy()
        without[members[:size]] = False
        alone = timed.marginal_cost(live)[members[:size]].sum()
        assert alone == pytest.approx(timed.cost(live) - timed.cost(without), rel=0.3)


def test_tables_of_other_networks_are_refused(spaces: ChannelSpaces) -> None:
    times = table_of(spaces)
    name, layer = next(iter(times.layers.items()))
    wider = replace(layer, outputs=(*layer.outputs[:-1], layer.outputs[-1] + 1))
    with pytest.raises(KernelTimesError, match=r"another network: .* has \d+ outputs here and \d+ there"):
        spaces.timed(replace(times, layers={**times.layers, name: wider}))
    wider = replace(layer, inputs=(*layer.inputs[:-1], layer.inputs[-1] + 1))
    with pytest.raises(KernelTimesError, match=r"another network: .* has \d+ inputs here and \d+ there"):
        spaces.timed(replace(times, layers={**times.layers, name: wider}))
    with pytest.raises(KernelTimesError, match=r"another network: elsewhere\.weight is in the table alone"):
        spaces.timed(replace(times, layers={**times.layers, "elsewhere.weight": layer}))
    with pytest.raises(KernelTimesError, match=f"another network: {name} is in the network alone"):
        spaces.timed(replace(times, layers={key: value for key, value in times.layers.items() if key != name}))
    without = {key: value for key, value in times.layers.items() if key != name}
    assert spaces.timed(replace(times, layers=without, untimed=(name,))).count == spaces.count
    with pytest.raises(KernelTimesError, match=r"this one has no such weight "):
        times.predict({})
    sizes = {key: (value.outputs[-1], value.inputs[-1]) for key, value in times.layers.items()}
    assert times.predict(sizes).share == pytest.approx(1.0)
    with pytest.raises(KernelTimesError, match=f"this one has no such weight {name}"):
        times.predict(sizes | {name: (layer.outputs[-1] + 1, layer.inputs[-1])})


def test_layers_that_are_not_quantized_count_too(spaces: ChannelSpaces) -> None:
    times = table_of(spaces)
    network = Residual()
    assert times.of_network(network).share == pytest.approx(1.0)
    codeq.attach(network, 8, exclude="fc", channels=True)
    assert times.of_network(network).share == pytest.approx(1.0)


def _changed(path: tuple[Any, ...], value: Any) -> Any:
    def change(table: dict[str, Any]) -> dict[str, Any]:
        table = copy.deepcopy(table)
        place: Any = table
        for key in path[:-1]:
            place = place[key]
        place[path[-1]] = value
        return table

    return change


NAME = "first.weight"
DAMAGED = {
    "another format": (
        _changed(("format",), "other"),
        "is not a table that python -m runtime_tests.kernel_times wrote",
    ),
    "a later version": (_changed(("version",), 2), "has version 2, expected 1; measure it again"),
    "no layers": (_changed(("layers",), {}), r"is damaged \(no layer takes time\)"),
    "no table": (_changed(("layers",), 3), "is damaged"),
    "NaN": (_changed(("layers", NAME, "milliseconds"), [[float("nan")]]), "nan is no time in milliseconds"),
    "a time too few": (_changed(("layers", NAME, "milliseconds"), [[1.0]]), "expected 2 x 2 times"),
    "falling": (_changed(("layers", NAME, "outputs"), [8, 4]), "do not rise"),
    "nothing takes time": (_changed(("layers", NAME, "milliseconds"), [[0, 0], [0, 0]]), "no layer takes time"),
    "the network takes none": (_changed(("dense_ms",), 0), "the network takes no time"),
    "threads": (_changed(("threads",), 100_000), "100000 is no number of channels, threads or bits"),
    "negative": (_changed(("dense_ms",), -1), "-1 is no time in milliseconds"),
    "no tile": (_changed(("tile",), 0), "0 is no number of channels"),
}


@pytest.mark.parametrize(("change", "message"), DAMAGED.values(), ids=DAMAGED)
def test_damaged_tables_are_refused(change: Any, message: str, tmp_path: Path) -> None:
    layer = LayerTimes((4, 8), (4, 8), ((1.0, 2.0), (3.0, 6.0)))
    times = KernelTimes({NAME: layer}, 6.0, 0.0, (), 4, "onnxruntime", "1.31.1", "a processor", 1, 8)
    path = tmp_path / "times.json"
    path.write_text(json.dumps(change(times.to_dict())))
    with pytest.raises(KernelTimesError, match=message) as caught:
        read_kernel_times(path)
    assert str(path) in str(caught.value)


def test_what_is_no_table_is_refused(tmp_path: Path) -> None:
    with pytest.raises(KernelTimesError, match=r"cannot read .*none\.json: No such file"):
        read_kernel_times(tmp_path / "none.json")
    with pytest.raises(KernelTimesError, match="is a folder, expected a table"):
        read_kernel_times(tmp_path)
    (tmp_path / "junk").write_bytes(b"\xff\x00junk")
    (tmp_path / "deep").write_text("[" * 200_000)
    for name in ("junk", "deep"):
        with pytest.raises(KernelTimesError, match=f"cannot read .*{name}: no JSON"):
            read_kernel_times(tmp_path / name)
