"""The digest of a checkpoint's content: it changes with every value, and with nothing else."""

from typing import Any

import pytest
import torch

from codeq.content_digest import content_sha256

pytestmark = pytest.mark.quick

CONTENT: dict[str, Any] = {
    "name": "net",
    "metrics": {"accuracy": 0.5, "nan": float("nan")},
    "shape": [3, 32],
    "state": {"w": torch.arange(6.0).reshape(2, 3), "steps": torch.tensor(3), "none": torch.zeros(0, 2)},
    "half": torch.ones(2, dtype=torch.bfloat16),
    "view": torch.arange(6.0).reshape(2, 3).t(),
}


def test_it_is_of_a_known_value() -> None:
    """Of the bytes 'mapping 1;', 'str 'a';', 'int 1;', by sha256sum."""
    assert content_sha256({"a": 1}) == "72582b35f926361e72f0facbea67b704576707103c09caf649f67adc5223113a"


def test_it_survives_a_file(tmp_path: Any) -> None:
    torch.save(CONTENT, tmp_path / "a.pt")
    assert content_sha256(torch.load(tmp_path / "a.pt", weights_only=True)) == content_sha256(CONTENT)


@pytest.mark.parametrize(
    "change",
    [
        {"name": "Net"},
        {"metrics": {"accuracy": 0.25, "nan": float("nan")}},
        {"shape": [332]},
        {"shape": [3, 32.0]},
        {"half": torch.ones(2, dtype=torch.float16)},
        {"half": torch.ones(1, 2, dtype=torch.bfloat16)},
        {"view": torch.arange(6.0).reshape(3, 2)},
        {"state": {"w": torch.nextafter(CONTENT["state"]["w"], torch.tensor(9.0))} | {"steps": torch.tensor(3)}},
        {"state": {"v": CONTENT["state"]["w"], "steps": torch.tensor(3), "none": torch.zeros(0, 2)}},
        {"added": None},
    ],
)
def test_every_change_is_seen(change: dict[str, Any]) -> None:
    assert content_sha256(CONTENT | change) != content_sha256(CONTENT)


def test_a_tensor_without_end_costs_its_storage() -> None:
    """An eighth of an exabyte, by its shape."""
    assert content_sha256({"w": torch.zeros(1).expand(2**55)}) != content_sha256({"w": torch.ones(1).expand(2**55)})


def test_what_has_no_end_has_no_digest() -> None:
    twice: list[Any] = []
    for _ in range(40):
        twice = [twice, twice]
    with pytest.raises(ValueError, match="more than 1,000,000 values"):
        content_sha256({"a": twice})
    itself: list[Any] = []
    itself.append(itself)
    with pytest.raises(RecursionError):
        content_sha256({"a": itself})


def test_what_holds_no_bytes_is_described() -> None:
    for tensor in (torch.empty(3, device="meta"), torch.eye(2).to_sparse()):
        assert content_sha256({"w": tensor}) != content_sha256({"w": torch.zeros(5)})
