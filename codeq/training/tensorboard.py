"""Write the records of a training run (run_log.py) as TensorBoard scalars, one point per epoch.

Tags are `run/<field>` for the network and `layer_<field>/<weight>` for each weight: TensorBoard makes one collapsible
section of what comes before the slash.
"""

import os
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from codeq.errors import CodeqError, OutputError
from codeq.toolkit.extras import install_hint
from codeq.toolkit.files import check_writable
from codeq.toolkit.quiet import quiet_torch

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

RUN_FIELDS = (
    "loss",
    "test_accuracy",
    "sparsity",
    "bits",
    "relative_bops",
    "entropy_bytes",
    "lambda_dz",
    "lambda_bit",
    "lr",
)
LAYER_FIELDS = ("bits", "sparsity", "theta_dz", "theta_bit")


class TensorBoardLog:
    """Writes the epochs of a run for `tensorboard --logdir FOLDER`.

    Args:
        folder: Made if it is missing. Points of an older run in it are hidden from the first epoch on that this one
            writes: a resumed run continues its curves, a new one starts afresh.

    Raises:
        CodeqError: TensorBoard is not installed.
        OutputError: The folder cannot be written.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = Path(folder)
        try:
            with quiet_torch():
                from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise CodeqError(f"TensorBoard logs need tensorboard: {install_hint('tensorboard')}") from error
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(f"cannot write {self.folder}: {error.strerror or error}") from error
        check_writable(self.folder / "events", force=True)
        self._make_writer = SummaryWriter
        self._writer: SummaryWriter | None = None

    def write(self, record: Mapping[str, Any]) -> None:
        """Take a record as `RunLog.write` does. Numbers that are None or NaN leave a gap."""
        if record["event"] == "start":
            self.close()
            self._open(record["resumed_epoch"] + 1)
        elif record["event"] == "epoch":
            writer = self._writer or self._open(record["epoch"])
            scalars = {f"run/{field}": record[field] for field in RUN_FIELDS}
            for layer in record["layers"]:
                scalars |= {f"layer_{field}/{layer['name']}": layer[field] for field in LAYER_FIELDS}
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of TensorBoard's own dependencies
                for tag, value in scalars.items():
                    if value is not None and value == value:
                        writer.add_scalar(tag, value, record["epoch"])
                writer.flush()

    def close(self) -> None:
        """Write out what is pending; a log that is closed twice does not mind."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def _open(self, first_epoch: int) -> "SummaryWriter":
        with quiet_torch():
            self._writer = self._make_writer(str(self.folder), purge_step=first_epoch)
        return self._writer

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
