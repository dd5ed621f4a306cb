"""Choose where to write a name beside each point of a plot, so that names cover neither each other nor a point.

Greedy: points in order, each label in the first of the least covered places around its point. No randomness, so that a
figure comes out the same every time.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

DISTANCES = (5, 14, 25, 38, 54)
"""Distances of a label from its point, in the unit of the boxes; the nearest is tried first."""
DIRECTIONS = ((1, 0.6), (-1, 0.6), (1, -0.6), (-1, -0.6), (0, 1), (0, -1), (1, 0), (-1, 0))
DISTANCE_PENALTY = 0.7
OUTSIDE_PENALTY = 50.0
"""What a unit of area outside the frame costs, where an overlap costs 1: a name that is cut off is lost."""


class Box(NamedTuple):
    """Describes a rectangle, `left <= right` and `bottom <= top`, in any one unit."""

    left: float
    bottom: float
    right: float
    top: float

    def area(self) -> float:
        """Return its area; 0 where an edge lies beyond its opposite."""
        return max(0.0, self.right - self.left) * max(0.0, self.top - self.bottom)

    def overlap(self, other: "Box") -> float:
        """Return the area that both cover."""
        return Box(
            max(self.left, other.left),
            max(self.bottom, other.bottom),
            min(self.right, other.right),
            min(self.top, other.top),
        ).area()

    def distance(self, x: float, y: float) -> float:
        """Return the distance from a point to the nearest edge; 0 for a point inside."""
        return math.hypot(max(self.left - x, 0, x - self.right), max(self.bottom - y, 0, y - self.top))


def place_labels(
    points: Sequence[tuple[float, float]],
    sizes: Sequence[tuple[float, float]],
    obstacles: Sequence[Box],
    frame: Box,
) -> list[Box]:
    """Choose a place for each label.

    Args:
        points: Position (x, y) of each point.
        sizes: Width and height of each label.
        obstacles: What labels should not cover: the points' markers, lines cut into short boxes.
        frame: What labels should not leave.

    Returns:
        The box of each label.
    """
    placed: list[Box] = []
    for point, size in zip(points, sizes, strict=True):
        taken = [*obstacles, *placed]

        def covered(candidate: tuple[float, Box], taken: list[Box] = taken) -> float:
            distance, box = candidate
            outside = box.area() - box.overlap(frame)
            return sum(map(box.overlap, taken)) + OUTSIDE_PENALTY * outside + DISTANCE_PENALTY * distance

        places = [
            (distance, _beside(point, size, distance, direction)) for distance in DISTANCES for direction in DIRECTIONS
        ]
        placed.append(min(places, key=covered)[1])
    return placed


def _beside(
    point: tuple[float, float], size: tuple[float, float], distance: float, direction: tuple[float, float]
) -> Box:
    x, y = point[0] + distance * direction[0], point[1] + distance * direction[1]
    # Away from the point: a direction to the left hangs the label by its right edge, straight up by its middle.
    left = x - size[0] * (1 - _sign(direction[0])) / 2
    bottom = y - size[1] * (1 - _sign(direction[1])) / 2
    return Box(left, bottom, left + size[0], bottom + size[1])


def _sign(value: float) -> int:
    return (value > 0) - (value < 0)
