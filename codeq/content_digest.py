"""A digest says whether a checkpoint still holds what was saved: every name, value, dtype, shape and byte of a tensor.

The zip's own CRCs cover a file's records, which torch does not check as it reads; the digest covers what is made of
them. It finds damage, not forgery: whoever rewrites a file can write its digest.
"""

import hashlib
import itertools
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

MOST_VALUES = 10**6
"""Values in one checkpoint; a list that holds another one twice, that holds a third one twice, has more in no time."""


def content_sha256(content: Mapping[Any, Any]) -> str:
    """Compute the digest of plain values and tensors, in the order in which they are stored.

    Raises:
        ValueError: More values than any checkpoint has, or an integer of thousands of digits.
        RecursionError: A list or a mapping that contains itself.
    """
    digest = hashlib.sha256()
    _add(digest, content, itertools.count())
    return digest.hexdigest()


def _add(digest: Any, value: Any, counter: Iterator[int]) -> None:
    if next(counter) >= MOST_VALUES:
        raise ValueError(f"more than {MOST_VALUES:,} values")
    if isinstance(value, Mapping):
        digest.update(f"mapping {len(value)};".encode())
        for key, item in value.items():
            _add(digest, key, counter)
            _add(digest, item, counter)
    elif isinstance(value, list | tuple):
        digest.update(f"sequence {len(value)};".encode())
        for item in value:
            _add(digest, item, counter)
    elif isinstance(value, Tensor):
        _add_tensor(digest, value.detach())
    else:
        digest.update(f"{type(value).__name__} {value!r};".encode())


def _add_tensor(digest: Any, tensor: Tensor) -> None:
    digest.update(f"{tensor.dtype} {tuple(tensor.shape)} {tensor.layout};".encode())
    if tensor.layout != torch.strided or tensor.device.type == "meta":
        return  # holds no bytes here, and `load` refuses it where it must
    tensor = tensor.cpu()
    if not tensor.is_contiguous():
        # Its storage, as it is saved: a file may declare a tensor that repeats a few bytes without end.
        digest.update(f"{tensor.stride()} {tensor.storage_offset()};".encode())
        tensor = torch.empty(0, dtype=torch.uint8).set_(tensor.untyped_storage())
    digest.update(tensor.reshape(-1).view(torch.uint8).numpy())
