"""Prove that all ranks hold the same weights, data and arguments, by exchanging hashes.

Ranks that differ train on without an error, towards a network that none of them would have trained alone. The causes
are ordinary: one machine with older code, another version of torch, a data set half copied, or processors that round
the same float32 sum differently.
"""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from codeq.errors import RanksDisagreeError

NAMED_RANKS = 8


def digest_of(values: Mapping[str, Any]) -> str:
    """Compute the SHA-256 of named values, the same in any process and for any order of the names.

    Args:
        values: Dense tensors, which count bit for bit with their dtype and shape, wherever they are stored; or what
            JSON can hold.

    Returns:
        64 hexadecimal digits.

    Raises:
        TypeError: Another kind of value; the message names it.
    """
    digest = hashlib.sha256()
    for name in sorted(values):
        value = values[name]
        if isinstance(value, Tensor):
            # The header gives the number of bytes that follow, so no two mappings give the same stream.
            digest.update(_header(name, str(value.dtype), list(value.shape)))
            flat = value.detach().cpu().contiguous().reshape(-1)
            digest.update(flat.view(torch.uint8).numpy().data)
        else:
            digest.update(_header(name, "json", value))
    return digest.hexdigest()


def check_agreement(what: str, digest: bytes | str) -> None:
    """Raise on every rank unless all ranks hold the same digest; every rank must call it.

    Args:
        what: Named in the message: "the network", "the data".
        digest: As from `digest_of`, of any length.

    Raises:
        RanksDisagreeError: The digests differ; the message names the ranks.
    """
    if not dist.is_initialized():
        return
    # Hashed once more: ranks with digests of different lengths must disagree, not wait for each other's bytes.
    own = hashlib.sha256(digest.encode() if isinstance(digest, str) else digest).digest()
    sent = torch.frombuffer(bytearray(own), dtype=torch.uint8)
    received = [torch.empty_like(sent) for _ in range(dist.get_world_size())]
    dist.all_gather(received, sent)
    others = [str(rank) for rank, theirs in enumerate(received) if not torch.equal(theirs, received[0])]
    if others:
        names = ", ".join(others[:NAMED_RANKS]) + (", ..." if len(others) > NAMED_RANKS else "")
        subject = f"rank {names} differs" if len(others) == 1 else f"ranks {names} differ"
        raise RanksDisagreeError(
            f"ranks disagree on {what}: {subject} from rank 0; "
            "use the same code, data, arguments, package versions and kind of processor for all"
        )


def _header(name: str, kind: str, value: Any) -> bytes:
    try:
        return json.dumps([name, kind, value], sort_keys=True).encode() + b"\n"
    except (TypeError, ValueError) as error:
        raise TypeError(f"{name}: expected a tensor or what JSON can hold ({error})") from error
