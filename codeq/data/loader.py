"""Load the batches of a split in order; where loading is work, the next one loads while the caller uses this one."""

from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

from torch import Tensor

from codeq.data.dataset import Split


def batches(
    split: Split, indices: Sequence[Tensor], draws: Sequence[Tensor] | None = None
) -> Iterator[tuple[Tensor, Tensor]]:
    """Load batch after batch. A split with `prefetch = True` loads one batch ahead in a thread of its own.

    The batches are the same either way. An error of `split.load` is raised where its batch is asked for. Closing the
    iterator early waits for the batch under way, so that no thread is left behind.

    Args:
        split: What to load from.
        indices: Positions of each batch, int64 `(n,)` each.
        draws: Of each batch, as for `Split.load`; None loads test views.

    Yields:
        Inputs, float32 `(n, channels, height, width)`, and labels, int64 `(n,)`.

    Raises:
        ValueError: Other numbers of draws than of indices.
        DataError: A file that cannot be read.
    """
    if draws is not None and len(draws) != len(indices):
        raise ValueError(f"there are draws for {len(draws)} batches, expected {len(indices)}")
    ahead = getattr(split, "prefetch", False)
    return _load_ahead(split, indices, draws) if ahead else _load_plainly(split, indices, draws)


def _load_plainly(
    split: Split, indices: Sequence[Tensor], draws: Sequence[Tensor] | None
) -> Iterator[tuple[Tensor, Tensor]]:
    for number, index in enumerate(indices):
        yield split.load(index, None if draws is None else draws[number]), split.labels[index]


def _load_ahead(
    split: Split, indices: Sequence[Tensor], draws: Sequence[Tensor] | None
) -> Iterator[tuple[Tensor, Tensor]]:
    with ThreadPoolExecutor(1, "loader") as background:

        def start(number: int) -> Future[Tensor] | None:
            if number == len(indices):
                return None
            return background.submit(split.load, indices[number], None if draws is None else draws[number])

        following = start(0)
        for number, index in enumerate(indices):
            assert following is not None
            inputs = following.result()
            following = start(number + 1)
            yield inputs, split.labels[index]
