"""Panels as SVG: points are where their numbers are, named for those who point at them, and nothing breaks the page."""

from __future__ import annotations

import math
import xml.etree.ElementTree as ElementTree
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightning_modules.reports.chart import Panel, Series
from lightning_modules.reports.svg_chart import COLOURS, svg, ticks


def elements(panel: Panel, tag: str) -> list[ElementTree.Element]:
    return list(ElementTree.fromstring(svg(panel)).iter(tag))


def panel(*series: Series) -> Panel:
    return Panel("title", "rate", "PSNR in dB", series)


def test_a_point_is_where_the_ticks_say() -> None:
    series = Series("a", [(0.0, 30.0), (1.0, 40.0), (0.5, 35.0)], ["low", "high", "middle"])
    low, high, middle = ((float(c.get("cx", "")), float(c.get("cy", ""))) for c in elements(panel(series), "circle"))
    assert low[0] < middle[0] < high[0]
    assert low[1] > middle[1] > high[1]
    assert middle == pytest.approx(((low[0] + high[0]) / 2, (low[1] + high[1]) / 2), abs=0.1)
    texts = [text.text for text in elements(panel(series), "text")]
    assert {"0.0", "0.2", "1.0", "30", "40", "rate", "PSNR in dB"} <= set(texts)


def test_every_point_has_the_name_of_its_series_and_its_own_as_they_are() -> None:
    named = panel(Series('a "<b>" & c', [(0.0, 1.0)], ["x < 'y'"]))
    (circle,) = elements(named, "circle")
    assert (circle.get("data-series"), circle.get("data-name")) == ('a "<b>" & c', "x < 'y'")


def test_what_is_not_finite_is_left_out_with_its_name() -> None:
    holes = panel(Series("a", [(0.0, 1.0), (1.0, math.nan), (math.inf, 2.0), (2.0, 3.0)], ["a", "b", "c", "d"]))
    assert [circle.get("data-name") for circle in elements(holes, "circle")] == ["a", "d"]
    assert elements(panel(Series("a", [])), "circle") == []


def test_more_series_than_colours_begin_again_dashed() -> None:
    many = panel(*(Series(str(k), [(0.0, float(k))]) for k in range(COLOURS + 1)))
    kinds = [group.get("class") for group in elements(many, "g")]
    assert (kinds[0], kinds[COLOURS]) == ("c0", "c0 dashed")
    assert len(set(kinds)) == COLOURS + 1


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=9))
def test_ticks_surround_all_values_at_equal_round_steps(values: list[float]) -> None:
    places = ticks(values)
    slack = 1e-8 * (abs(places[-1]) + abs(places[0]) + 1e-300)
    assert places[0] - slack <= min(values) <= max(values) <= places[-1] + slack
    assert 2 <= len(places) <= 12
    steps = {round((b - a) / (places[1] - places[0]), 6) for a, b in pairwise(places)}
    assert steps == {1.0}
