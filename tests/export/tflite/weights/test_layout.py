"""A tensor in the file's order, and back."""

import numpy as np
import pytest

from export.tflite.weights.layout import StoredLayout, flat_order, identity


def test_by_hand() -> None:
    tensor = np.arange(8).reshape(1, 2, 4)
    layout = StoredLayout((1, 2, 2, 2), (0, 2, 3, 1), (1, 4, 2))
    stored = layout.store(tensor)
    assert stored.tolist() == [[[0, 4], [1, 5], [2, 6], [3, 7]]]
    assert np.array_equal(layout.restore(stored, tensor.shape), tensor)


@pytest.mark.parametrize(
    ("view", "order", "shape"), [((2, 3), (0, 0), (2, 3)), ((2, 3), (0,), (2, 3)), ((2, 3), (0, 1), (2, 2))]
)
def test_contradictions(view: tuple[int, ...], order: tuple[int, ...], shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="layout of view"):
        StoredLayout(view, order, shape)


def test_axes_of_one_value_do_not_count() -> None:
    assert identity(3) == (0, 1, 2)
    assert flat_order((1, 8, 1, 1), (0, 2, 3, 1)) == (1,)
    assert flat_order((1, 8, 2, 1), (0, 2, 3, 1)) == (2, 1)
