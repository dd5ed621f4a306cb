"""Train with several processes as with one: m ranks with a part of a batch each take the step of the whole batch.

    gradient of mean(loss over the batch) = 1 / m * sum over ranks of
        gradient of (n_rank * m / n_batch) * mean(loss over the rank's part)

DistributedDataParallel forms the mean over the ranks (1 / m times the sum); `loss_weight` is the factor before it.
Whatever else a network computes from a batch must be computed from the whole one: BatchNorm by
`codeq.training.sync_batch_norm`, losses and counts by `total`.

Started by `torchrun --nproc-per-node 2 -m ...`; without it everything here does nothing. The order of calls:

    ranks = start_ranks()
    model = ...                                     # the same on every rank: same seed, or the same checkpoint
    synchronize_batch_norm(model)
    check_agreement("the network", digest_of(model.state_dict()))       # before wrap, which copies rank 0's
    network = wrap(model, ranks)                    # once; freezing later needs nothing
    for batch in batches:                           # the same batches on every rank
        part = share(batch, ranks)
        loss = cross_entropy(network(inputs[part]), labels[part])
        (loss * loss_weight(len(part), len(batch), ranks)).backward()
        optimizer.step()
    if ranks.is_main:                               # only rank 0 prints and writes
        save(..., model)                            # model, not network
    end_ranks()                                     # not reached by a rank that raises

When a rank ends, the sockets of its process close and the others' next exchange fails at once; when it hangs, theirs
fails after the timeout of `start_ranks`. So no rank may be busy alone for longer than that.
"""

import atexit
import gc
import os
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from codeq.errors import RanksError, first_line

TIMEOUT = timedelta(minutes=10)
"""How long an exchange waits for a slow rank: while rank 0 writes, the others wait. torch's own is 30 minutes."""
END_TIMEOUT = timedelta(minutes=1)
"""How long a rank waits at its end for one that still writes."""
LAUNCHED = ("RANK", "WORLD_SIZE", "LOCAL_RANK")
"""Variables that only a launcher sets. Clusters export MASTER_ADDR and MASTER_PORT everywhere: these are no launch."""
NEEDED = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
_closing: dist.ProcessGroup | None = None
"""A second group of all ranks, for the last exchange, which has a timeout of its own."""


@dataclass(frozen=True)
class Ranks:
    """Says which of how many processes this is. `Ranks(0, 1)` is a process on its own.

    Raises:
        ValueError: The rank is not one of the `world_size`.
    """

    rank: int
    world_size: int

    def __post_init__(self) -> None:
        if not 0 <= self.rank < self.world_size:
            raise ValueError(f"rank must be 0 to {self.world_size - 1} for {self.world_size} ranks, found {self.rank}")

    @property
    def is_main(self) -> bool:
        """Tell whether this process prints and writes."""
        return self.rank == 0


def start_ranks(timeout: timedelta = TIMEOUT) -> Ranks:
    """Meet the other processes that torchrun started; a process started without it is alone.

    CPU tensors are exchanged by gloo, CUDA tensors by nccl, with one device per rank. The process group ends with
    `end_ranks`, or else with the process. A second call returns the same ranks.

    Args:
        timeout: How long to wait for another rank, here and in every later exchange.

    Raises:
        RanksError: torchrun's environment is incomplete or malformed, there are more ranks than CUDA devices, or the
            ranks do not meet.
    """
    if dist.is_initialized():
        return Ranks(dist.get_rank(), dist.get_world_size())
    if not any(os.environ.get(name) for name in LAUNCHED):
        return Ranks(0, 1)
    missing = [name for name in NEEDED if not os.environ.get(name)]
    if missing:
        found = ", ".join(name for name in LAUNCHED if os.environ.get(name))
        raise RanksError(
            f"the environment of torchrun is incomplete: {found} without {', '.join(missing)}; "
            f"start with torchrun, or unset {found} for a single process"
        )
    try:
        ranks = Ranks(int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"]))
        device = int(os.environ.get("LOCAL_RANK") or ranks.rank)
    except ValueError as error:
        values = ", ".join(f"{name}={os.environ[name]!r}" for name in LAUNCHED if name in os.environ)
        raise RanksError(f"{values} in the environment: {error}; start with torchrun") from error
    if ranks.world_size == 1:
        return ranks

    backend = "gloo"
    if torch.cuda.is_available() and dist.is_nccl_available():
        backend = "cpu:gloo,cuda:nccl"
        _take_device(ranks, device)
    try:
        dist.init_process_group(backend, timeout=timeout, rank=ranks.rank, world_size=ranks.world_size)
        global _closing
        _closing = dist.new_group(backend="gloo", timeout=END_TIMEOUT)
    except (RuntimeError, ValueError, OSError) as error:
        address = f"{os.environ['MASTER_ADDR']}:{os.environ['MASTER_PORT']}"
        raise RanksError(
            f"rank {ranks.rank} of {ranks.world_size} did not meet the others at {address} "
            f"within {timeout.total_seconds():g} s ({first_line(error)}); start all of them with torchrun"
        ) from error
    atexit.register(end_ranks, wait=False)
    return ranks


def end_ranks(*, wait: bool = True) -> None:
    """Leave the process group; nothing is exchanged afterwards. Alone it does nothing.

    Args:
        wait: Wait until every rank is here, so that none closes its sockets while another still uses them; at most for
            `END_TIMEOUT`, and not for ranks that have ended by an error. False for a rank that ends by an error itself:
            the others are to see it at once.
    """
    global _closing
    if not dist.is_initialized():
        return
    if wait:
        # Wrapped networks hold the group, often in reference cycles, which would end it within the interpreter's end.
        gc.collect()
        with suppress(RuntimeError):
            dist.barrier(_closing)
    _closing = None
    dist.destroy_process_group()


def share(index: Tensor, ranks: Ranks) -> Tensor:
    """Take this rank's part of a batch that all ranks hold.

    Args:
        index: Indices or inputs, split along the first axis.
        ranks: As from `start_ranks`.

    Returns:
        A contiguous range of it, a view. Parts differ in length by at most one, the longer ones come first.

    Raises:
        RanksError: The batch has fewer inputs than there are ranks. Every rank raises it.

    Examples:
        >>> [share(torch.arange(5), Ranks(rank, 2)).tolist() for rank in range(2)]
        [[0, 1, 2], [3, 4]]
    """
    if len(index) < ranks.world_size:
        raise RanksError(
            f"batch of {len(index)} for {ranks.world_size} ranks, expected an input for each; "
            "use larger batches or fewer ranks"
        )
    return index.tensor_split(ranks.world_size)[ranks.rank]


def loss_weight(local_size: int, batch_size: int, ranks: Ranks) -> float:
    """Weigh a rank's mean loss, so that the mean of the ranks' gradients is the gradient of the batch's mean.

    Args:
        local_size: Inputs in this rank's part.
        batch_size: Inputs in all parts together.
        ranks: As from `start_ranks`.

    Returns:
        local_size * world_size / batch_size; exactly 1 for equal parts.

    Examples:
        >>> loss_weight(3, 5, Ranks(0, 2)), loss_weight(2, 5, Ranks(1, 2))
        (1.2, 0.8)
    """
    return local_size * ranks.world_size / batch_size


@torch.no_grad()
def total(values: Tensor) -> Tensor:
    """Add up every rank's `values`, bit for bit the same on every rank; a new tensor, without gradient.

    Args:
        values: The same shape and dtype on every rank, e.g. (loss times count, correct, count).
    """
    result = values.detach().clone(memory_format=torch.contiguous_format)
    if dist.is_initialized():
        dist.all_reduce(result)
    return result


def wrap(model: nn.Module, ranks: Ranks) -> nn.Module:
    """Wrap a network for training steps, so that its gradients are the mean over the ranks.

    Call it once, after `attach` and `synchronize_batch_norm`. Parameters may drop out of the graph later and come back:
    thetas when grids freeze, activation quantizers before they are calibrated. (DistributedDataParallel as it comes
    waits for their gradients: in torch 2.13 the first step after `codeq.freeze` silently applies each rank's own
    gradients, and the second raises.) Parameters that no rank used keep `grad` None.

    Freeze, encode, save, evaluate and build optimizers with `model`, whose parameters these are. BatchNorm
    statistics and frozen grids are not copied from rank 0 in each step: every rank computes the same ones from the
    same weights and the whole batch.

    Args:
        model: Any network, on the device where it trains. Rank 0's parameters and buffers are copied to all ranks.
        ranks: As from `start_ranks`.

    Returns:
        A module that calls `model`; without other ranks `model` itself.
    """
    if ranks.world_size == 1:
        return model
    return DistributedDataParallel(_Replica(model), forward_sync_buffers=False, find_unused_parameters=True)


class _Replica(nn.Module):
    """Gives a network one more parameter, which nothing uses.

    Told to look for unused parameters, torch warns on stderr, out of reach of Python's filters, when it finds none.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        device = next((parameter.device for parameter in model.parameters()), None)
        self.unused = nn.Parameter(torch.zeros((), device=device))

    def forward(self, *inputs: Any, **named: Any) -> Any:
        return self.model(*inputs, **named)


def _take_device(ranks: Ranks, device: int) -> None:
    count = torch.cuda.device_count()
    if device >= count:
        raise RanksError(
            f"rank {ranks.rank} has no CUDA device of its own: it is number {device + 1} here, of {count} devices; "
            "start fewer ranks, or set CUDA_VISIBLE_DEVICES= to train on CPUs"
        )
    torch.cuda.set_device(device)
