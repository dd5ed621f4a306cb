"""Every network in every mode and storage, one after the other."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from export.options import ACTIVATIONS
from runtime_tests.matrix.report import ZooReport
from runtime_tests.matrix.timing import ZooBench, bench_network
from runtime_tests.matrix.zoo_file import LITERT, MODES, STORAGES, Kind, ZooFile, export_zoo_file, file_path
from runtime_tests.networks import zoo_network
from runtime_tests.runners.registry import all_runtimes
from runtime_tests.runners.runtime import is_installed


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
    """Export and check every network in every mode and storage.

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
    storages: tuple[Kind, ...] = (*STORAGES, LITERT) if is_installed(all_runtimes()[LITERT]) else STORAGES
    modes = [(activations, storage) for activations in ACTIVATIONS for storage in storages]
    steps = (len(modes) + timed) * len(networks)
    for index, network in enumerate(networks):
        done = (len(modes) + timed) * index
        on_progress(done / steps, network)
        model, inputs = zoo_network(network, (arguments or {}).get(network))
        failed = False
        for number, (activations, storage) in enumerate(modes):
            on_progress((done + number) / steps, f"{network}, {MODES[activations]}, {storage}")
            path = file_path(folder, network, activations, storage)
            files.append(export_zoo_file(network, model, inputs, path, activations, storage))
            failed = failed or bool(files[-1].failure)
        if timed and not failed:
            start = done + len(modes)
            benches.append(
                bench_network(
                    network,
                    model,
                    inputs,
                    folder,
                    rounds=rounds,
                    threads=threads,
                    on_progress=lambda share, _, start=start, network=network: on_progress(  # type: ignore[misc]
                        (start + share) / steps, f"{network}, timing"
                    ),
                )
            )
    on_progress(1.0, "")
    return ZooReport(tuple(files), tuple(benches), threads)
