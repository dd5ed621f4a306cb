"""A training run writes no file that it reads, none twice, and an old one only when asked, or its own."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from codeq import checkpoint
from codeq.errors import CodeqError, OutputError
from codeq.run_log import read_run
from codeq.toolkit.files import check_writable
from codeq.training.recipe import HELD_FILES, TrainConfig

CONTINUED = ("--log", "--best")
"""What a resumed run goes on with. Its plot and its report come when it is done, so that none of these is there yet."""


def check_run_files(
    outputs: Mapping[str, Path | None], config: TrainConfig, *, resume: Path | None = None, force: bool = False
) -> None:
    """Say before the work starts whether everything may be written.

    Args:
        outputs: Flag to path; None is not written.
        config: Of the run.
        resume: The checkpoint to go on from. Then its own log and best checkpoint may be there, which hold the same
            recipe, and `--output` may name it.
        force: Overwrite old files, but never one that the run reads.

    Raises:
        OutputError: They may not; the message names the flag.
    """
    read = {"--teacher": config.teacher, "--init": config.init, "--resume": resume}
    inputs = {Path(path).resolve(): flag for flag, path in read.items() if path is not None}
    seen: dict[Path, str] = {}
    for flag, path in outputs.items():
        if path is None:
            continue
        target = path.resolve()
        source = inputs.get(target)
        goes_on = flag == "--output" and source == "--resume"
        if source is not None and not goes_on:
            raise OutputError(f"{flag} {path}: is the file of {source}, which is read; name another one")
        other = seen.setdefault(target, flag)
        if other != flag:
            raise OutputError(f"{flag} {path}: is the file of {other}; name another one")
        own = resume is not None and flag in CONTINUED and path.is_file() and _is_same(_config_in(flag, path), config)
        check_writable(path, force=force or goes_on or own)


def _is_same(found: TrainConfig | None, config: TrainConfig) -> bool:
    """Compare two recipes, wherever the files lie whose contents are held."""
    moved = {name: getattr(config, name) for name in HELD_FILES}
    return found is not None and replace(found, **moved) == config


def _config_in(flag: str, path: Path) -> TrainConfig | None:
    """Read the recipe in a log or checkpoint; None if it is neither."""
    try:
        stored = read_run(path).config if flag == "--log" else (checkpoint.load(path).training or {})["config"]
        return TrainConfig(**stored)
    except (CodeqError, KeyError, TypeError, ValueError):
        return None
