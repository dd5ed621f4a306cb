"""Labels beside points, by hand."""

import itertools

import pytest

from codeq.figures.labels import Box, place_labels

pytestmark = pytest.mark.quick

FRAME = Box(0, 0, 200, 100)


def test_boxes_by_hand() -> None:
    box = Box(0, 0, 4, 2)
    assert box.area() == 8
    assert box.overlap(Box(3, 1, 9, 9)) == 1
    assert box.overlap(Box(5, 0, 9, 2)) == 0
    assert box.distance(2, 1) == 0
    assert box.distance(7, 6) == 5
    assert box.distance(-1, 1) == 1


def test_a_lone_label_is_up_and_to_the_right() -> None:
    (box,) = place_labels([(50, 50)], [(40, 10)], [], FRAME)
    assert box == Box(55, 53, 95, 63)


@pytest.mark.parametrize("point", [(198, 50), (2, 50), (100, 98), (100, 2), (199, 99)])
def test_labels_stay_in_the_frame(point: tuple[float, float]) -> None:
    (box,) = place_labels([point], [(40, 10)], [], FRAME)
    assert box.overlap(FRAME) == pytest.approx(box.area())


def test_labels_cover_neither_each_other_nor_points() -> None:
    points = [(60, 50), (70, 52), (80, 48), (66, 40), (74, 60)]
    markers = [Box(x - 3, y - 3, x + 3, y + 3) for x, y in points]
    boxes = place_labels(points, [(40, 8)] * len(points), markers, FRAME)
    assert all(a.overlap(b) == 0 for a, b in itertools.combinations(boxes, 2))
    assert all(box.overlap(marker) == 0 for box in boxes for marker in markers)
    assert place_labels(points, [(40, 8)] * len(points), markers, FRAME) == boxes
