"""What an ONNX file's report has of its own."""

import dataclasses
from types import SimpleNamespace
from typing import Any

import pytest

from export.onnx.details import OnnxDetails
from export.onnx.saturation import Saturation

pytestmark = pytest.mark.quick

DETAILS = OnnxDetails(13, 8, "1.10", "auto", 0, 0, 900, 100, {"rnn.W": 40, "rnn.R": 2}, None, None, Saturation())
REPORT: Any = SimpleNamespace(size_bytes=1000, entropy_bytes=500.0, weights=("fc.weight",))


@pytest.mark.parametrize(
    ("packed", "storage", "flags"),
    [(900, "auto", {"--storage": "packed"}), (1000, "auto", {}), (900, "packed", {}), (900, "smallest", {})],
)
def test_packed_is_proposed_where_it_is_smaller(packed: int, storage: str, flags: dict[str, str]) -> None:
    details = dataclasses.replace(DETAILS, packed_bytes=packed, storage=storage)
    assert details.smaller(REPORT) == flags
    assert ("with packed" in dict(details.remarks(REPORT))) == bool(flags)


@pytest.mark.parametrize(
    ("largest", "saturation", "safe", "words"),
    [
        (None, Saturation(), None, ""),
        (63, Saturation(), True, "within 63: exact, no pair of products saturates"),
        (127, Saturation({"a.weight": 252}), False, "without them a.weight may saturate: two codes sum to 252"),
        (
            127,
            Saturation({"a.weight": 130, "b.weight": 254}, ("b.weight",)),
            False,
            "a.weight may saturate: two codes sum to 130",
        ),
        (127, Saturation({"b.weight": 254}, ("b.weight",)), True, "within 127: exact, read as uint8"),
    ],
)
def test_what_old_x86_makes_of_it(largest: int | None, saturation: Saturation, safe: bool | None, words: str) -> None:
    details = dataclasses.replace(DETAILS, largest_code=largest, saturation=saturation)
    assert details.safe_without_vnni is safe
    assert details.to_dict()["safe_without_vnni"] is safe
    assert words in dict(details.remarks(REPORT)).get("x86 without VNNI", "")
    assert ("x86 without VNNI" in dict(details.remarks(REPORT))) == bool(words)


def test_float_weights_are_summed() -> None:
    assert DETAILS.to_dict()["float_weight_bytes"] == 42
    assert dict(DETAILS.remarks(REPORT))["float weights"] == "42 B in 2 tensors"
