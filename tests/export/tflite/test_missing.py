"""The document of LiteRT's operators says what the registry and the table of reasons say."""

import re
from pathlib import Path

import pytest
import torch

import export.tflite.operators.families
from codeq.graph import canonical
from export.tflite.missing import REASONS
from export.tflite.operators.registry import LOWERINGS
from export.tflite.passes.spell_out import SPELLINGS, WORDS

pytestmark = pytest.mark.quick
assert export.tflite.operators.families.FAMILIES

CANONICAL = {"mT", "silu", "stack", "upsample_linear1d"}
"""Operators that codeq/graph/canonical.py writes in other words."""
DOCUMENT = Path(__file__).parents[3] / "docs" / "litert_operators.md"


def lowered() -> set[str]:
    targets = [
        target for target in (*LOWERINGS, *SPELLINGS, *WORDS, *canonical.SPELLINGS) if hasattr(target, "overloadpacket")
    ]
    return {target.overloadpacket.__name__ for target in targets if target.namespace == "aten"} | CANONICAL


def test_reasons_are_of_operators_that_have_no_lowering() -> None:
    assert not lowered() & set(REASONS)
    unknown = [name for name in REASONS if not hasattr(torch.ops.aten, name)]
    assert not unknown
    assert list(REASONS) == sorted(REASONS)


def test_the_document_lists_what_is_lowered_and_why_others_are_not() -> None:
    text = DOCUMENT.read_text()
    first, second = text.split("## Not lowered")
    assert set(re.findall(r"`(\w+)`", first.split("## Lowered")[1])) == lowered()
    rows = re.findall(r"^\| `(\w+)` \| (.*?) \|$", second, re.M)
    assert dict(rows) == dict(REASONS)
    assert len(rows) == len(REASONS)
