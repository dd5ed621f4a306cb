"""Digests of what ranks must have in common. What ranks do that disagree is in test_distributed.py."""

from pathlib import Path
from typing import Any

import pytest
import torch

from codeq.training.agreement import check_agreement, digest_of


def test_digests_see_every_difference() -> None:
    base = {"w": torch.tensor([1.0, 2.0]), "epochs": 3, "bits": None}
    assert digest_of(base) == digest_of(dict(reversed(base.items())))
    assert digest_of(base) == digest_of(base | {"w": torch.tensor([[1.0, 0.0], [2.0, 0.0]])[:, 0]})
    changes: list[dict[str, Any]] = [
        {"w": torch.tensor([2.0, 1.0])},
        {"w": torch.tensor([[1.0, 2.0]])},
        {"w": torch.tensor([1.0, 2.0]).view(torch.int32)},
        {"w": [1.0, 2.0]},
        {"epochs": 3.0},
        {"epochs": "3"},
        {"bits": 4},
        {"more": torch.zeros(0)},
        {"more": torch.tensor(True)},
        {"more": torch.zeros((), dtype=torch.bfloat16)},
    ]
    digests = [digest_of(base | change) for change in [{}, *changes]]
    assert len(set(digests)) == len(digests)
    assert all(len(digest) == 64 for digest in digests)


def test_digests_refuse_what_has_no_fixed_bytes() -> None:
    with pytest.raises(TypeError, match=r"^path: expected a tensor or what JSON can hold \(.*Path"):
        digest_of({"path": Path()})


def test_a_process_alone_agrees_with_itself() -> None:
    check_agreement("anything", "digest")
