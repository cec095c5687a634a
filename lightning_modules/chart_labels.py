"""Places for labels beside points, so that none covers another, or a point."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

DISTANCES = (7, 12, 20, 30, 42, 56, 72, 90, 110, 132, 156, 182, 210, 240)
"""Pixels from a point to the nearest edge of its label, in the order in which they are tried."""

DIRECTIONS = (0, 180, 270, 90, 315, 45, 225, 135, 338, 22, 202, 158, 292, 68, 248, 112)
"""Degrees, clockwise from the right, as y grows downwards."""

NEAR = 12
"""A label farther from its point has a line that leads there."""

CLEARANCE = 6
"""Pixels around a point that stay free, from its centre."""

Point = tuple[float, float]


class Box(NamedTuple):
    """In pixels; y grows downwards."""

    left: float
    top: float
    right: float
    bottom: float

    def overlaps(self, other: Box) -> bool:
        across = self.left < other.right and other.left < self.right
        return across and self.top < other.bottom and other.top < self.bottom

    def contains(self, other: Box) -> bool:
        across = self.left <= other.left and other.right <= self.right
        return across and self.top <= other.top and other.bottom <= self.bottom


class Label(NamedTuple):
    """leader: where a line from the point ends, which labels may cover; None for a label that is near enough."""

    box: Box
    leader: Point | None


class LabelPlacer:
    """Remembers what is taken. frame: what labels stay inside. points: what no label may cover."""

    def __init__(self, frame: Box, points: Sequence[Point]) -> None:
        self.frame = frame
        self.taken = [_around(point) for point in points]

    def place(self, point: Point, size: tuple[float, float]) -> Label:
        """The nearest free place for a label of `size` (width, height); where all are taken, the farthest."""
        candidates = [_candidate(point, size, distance, angle) for distance in DISTANCES for angle in DIRECTIONS]
        label = next((label for label in candidates if self._is_free(label.box)), candidates[-1])
        self.taken.append(label.box)
        return label

    def _is_free(self, box: Box) -> bool:
        return self.frame.contains(box) and not any(box.overlaps(other) for other in self.taken)


def _candidate(point: Point, size: tuple[float, float], distance: float, angle: float) -> Label:
    """The label whose edge or corner that faces the point is so far away in this direction."""
    (x, y), (width, height) = point, size
    across, down = math.cos(math.radians(angle)), math.sin(math.radians(angle))
    near_x, near_y = x + distance * across, y + distance * down
    left, top = near_x - width * (1 - across) / 2, near_y - height * (1 - down) / 2
    return Label(Box(left, top, left + width, top + height), (near_x, near_y) if distance > NEAR else None)


def _around(point: Point) -> Box:
    x, y = point
    return Box(x - CLEARANCE, y - CLEARANCE, x + CLEARANCE, y + CLEARANCE)
