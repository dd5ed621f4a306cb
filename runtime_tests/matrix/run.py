"""This module exports every network in every mode and kind of file, one after the other."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from export.options import ACTIVATIONS
from runtime_tests.matrix.report import ZooReport
from runtime_tests.matrix.timing import ZooBench, bench_network
from runtime_tests.matrix.zoo_file import MODES, ZooFile, all_kinds, export_zoo_file
from runtime_tests.networks import zoo_network


def run_matrix(
    networks: Sequence[str],
    folder: Path,
    *,
    arguments: Mapping[str, Mapping[str, Any]] | None = None,
    timed: bool = False,
    rounds: int | None = None,
    threads: int = 1,
    on_progress: Callable[[float, str], None] = lambda share, detail: None,
) -> ZooReport:
    """Export and check every network in every mode and kind of file.

    Args:
        networks: Of the registry.
        folder: Where the files go.
        arguments: Of their factories, by network.
        timed: Measure latency too.
        rounds, threads: As for `bench_network`.
        on_progress: Called with the share done, 0 to 1, and what comes next.
    """
    files: list[ZooFile] = []
    benches: list[ZooBench] = []
    modes = [(activations, kind) for activations in ACTIVATIONS for kind in all_kinds()]
    steps = (len(modes) + timed) * len(networks)
    for index, network in enumerate(networks):
        done = (len(modes) + timed) * index
        on_progress(done / steps, network)
        model, inputs = zoo_network(network, (arguments or {}).get(network))
        found = []
        for number, (activations, kind) in enumerate(modes):
            on_progress((done + number) / steps, f"{network}, {MODES[activations]}, {kind.variant}")
            found.append(export_zoo_file(network, model, inputs, folder, activations, kind))
        files += found
        if timed and not any(file.failure for file in found):
            start = done + len(modes)
            written = [kind.path(folder, network, activations) for activations, kind in modes]
            benches.append(
                bench_network(
                    network,
                    model,
                    inputs,
                    folder,
                    [path for path in written if path.exists()],
                    rounds=rounds,
                    threads=threads,
                    on_progress=lambda share, _, start=start, network=network: on_progress(  # type: ignore[misc]
                        (start + share) / steps, f"{network}, timing"
                    ),
                )
            )
    on_progress(1.0, "")
    return ZooReport(tuple(files), tuple(benches), threads)
