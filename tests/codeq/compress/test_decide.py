"""Some weights stay at 8 bits by themselves, unless the caller has chosen their bits."""

from codeq.compress.columns import FEW_INPUTS
from codeq.compress.decide import Kept


def test_reasons() -> None:
    kept = Kept({"first"}, {"given"})
    assert "reads an input" in kept.reason("first", 1000)
    assert f"{FEW_INPUTS - 1} values" in kept.reason("depthwise", FEW_INPUTS - 1)
    assert not kept.reason("other", FEW_INPUTS)
    assert not kept.reason("unread", None)
    assert not kept.reason("given", 1)
    assert not Kept({"first"}, set(), none=True).reason("first", 1)
