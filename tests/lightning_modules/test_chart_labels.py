"""Labels find free places, however close their points are."""

from __future__ import annotations

from itertools import combinations

from hypothesis import given, settings
from hypothesis import strategies as st

from lightning_modules.chart_labels import CLEARANCE, NEAR, Box, LabelPlacer, Point

FRAME = Box(0, 0, 560, 360)
SIZE = (70.0, 14.0)


def place_all(points: list[Point]) -> list[Box]:
    placer = LabelPlacer(FRAME, points)
    return [placer.place(point, SIZE).box for point in points]


@settings(deadline=None, max_examples=40)
@given(st.lists(st.tuples(st.floats(10, 550), st.floats(10, 350)), max_size=12))
def test_labels_cover_neither_each_other_nor_a_point_nor_the_axes(points: list[Point]) -> None:
    boxes = place_all(points)
    assert not any(one.overlaps(other) for one, other in combinations(boxes, 2))
    assert all(FRAME.contains(box) for box in boxes)
    assert not [(x, y) for x, y in points for box in boxes if box.overlaps(Box(x - 1, y - 1, x + 1, y + 1))]


def test_twelve_points_in_one_place_are_told_apart() -> None:
    boxes = place_all([(280.0, 180.0)] * 12)
    assert len(set(boxes)) == 12
    assert not any(one.overlaps(other) for one, other in combinations(boxes, 2))


def test_a_lonely_label_is_beside_its_point_and_a_far_one_is_led_to_it() -> None:
    placer = LabelPlacer(FRAME, [(280.0, 180.0)])
    first = placer.place((280.0, 180.0), SIZE)
    assert first.leader is None
    assert CLEARANCE <= first.box.left - 280.0 <= NEAR
    others = [placer.place((280.0, 180.0), SIZE) for _ in range(7)]
    assert others[-1].leader is not None
