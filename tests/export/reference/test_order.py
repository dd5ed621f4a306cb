"""Of equal values the first comes first, by hand."""

import pytest
import torch

from export.reference.order import FIRST_OF_EQUAL

aten = torch.ops.aten
X = torch.tensor([[2.0, 3, 2, 3, 1, 2]])


@pytest.mark.parametrize(
    ("target", "arguments", "places"),
    [
        (aten.topk.default, (3,), [1, 3, 0]),
        (aten.topk.default, (3, 1, False), [4, 0, 2]),
        (aten.sort.default, (), [4, 0, 2, 5, 1, 3]),
        (aten.sort.default, (1, True), [1, 3, 0, 2, 5, 4]),
    ],
)
def test_places(target: object, arguments: tuple[int, ...], places: list[int]) -> None:
    values, found = FIRST_OF_EQUAL[target](X, *arguments)
    assert found.tolist() == [places]
    assert torch.equal(values, X.gather(1, found))


def test_argsort() -> None:
    assert FIRST_OF_EQUAL[aten.argsort.default](X, -1, True).tolist() == [[1, 3, 0, 2, 5, 4]]
