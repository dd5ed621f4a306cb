"""What reads joined axes orders its weight as they lie."""

import numpy as np

from export.tflite.builder.value import JoinedAxes
from export.tflite.weights.layout import StoredLayout


def test_columns_of_a_weight_follow_the_axes_that_they_read() -> None:
    """A flattened image of 2 channels, 3 rows and 4 columns that lies channels last, times a matrix."""
    rng = np.random.default_rng(0)
    image, weight = rng.integers(-9, 9, (2, 3, 4)), rng.integers(-9, 9, (5, 24))
    columns = JoinedAxes((2, 3, 4), (1, 2, 0))
    layout = StoredLayout((5, *columns.sizes), (0, *columns.behind(1)), (5, 24))
    stored = layout.store(weight)
    assert np.array_equal(stored @ image.transpose(columns.order).reshape(-1), weight @ image.reshape(-1))
