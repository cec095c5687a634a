"""BD-rate and BD-PSNR: published curves, an independent computation, what cannot be compared, and how sure it is."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from numpy.polynomial import Polynomial
from scipy.interpolate import PchipInterpolator

from lightning_modules.errors import CodingError
from lightning_modules.reports.bjontegaard_delta import (
    LEAST_POINTS,
    Incomparable,
    delta,
    interval,
    outliers,
    rate_difference,
)
from tests.lightning_modules.reports.published_results import KODAK

pytest.importorskip("bjontegaard", reason="BD-rate needs the extra: pip install -e .[metrics]")

PAIRS = [
    ("base", "sga", -15.17, -15.22, 0.758),
    ("base", "sga_bb", -16.83, -16.87, 0.848),
    ("sga", "sga_bb", -1.95, -1.93, 0.090),
]
each_method = pytest.mark.parametrize("method", LEAST_POINTS)


def rate_by_sums(anchor: list[tuple[float, float]], test: list[tuple[float, float]], method: str) -> float:
    """BD-rate in percent by the rule of the middle, on 20,000 places: nothing of the library, nor its integrals."""
    curves = []
    for points in (anchor, test):
        rates, qualities = np.array(points).T
        if method == "cubic":
            curves.append(Polynomial.fit(qualities, np.log(rates), 3))
        else:
            curves.append(PchipInterpolator(qualities, np.log(rates)))
    low, high = max(anchor[0][1], test[0][1]), min(anchor[-1][1], test[-1][1])
    places = low + (np.arange(20_000) + 0.5) / 20_000 * (high - low)
    return 100.0 * float(np.expm1(np.mean(curves[1](places) - curves[0](places))))


@pytest.mark.parametrize(("anchor", "test", "cubic", "pchip", "decibels"), PAIRS)
def test_published_curves_of_kodak_have_the_differences_that_were_derived_from_them(
    anchor: str, test: str, cubic: float, pchip: float, decibels: float
) -> None:
    found = delta(KODAK[anchor], KODAK[test], "cubic")
    assert found.rate == pytest.approx(cubic, abs=0.05)
    assert found.quality == pytest.approx(decibels, abs=0.001)
    assert delta(KODAK[anchor], KODAK[test], "pchip").rate == pytest.approx(pchip, abs=0.05)


@pytest.mark.parametrize("method", ["cubic", "pchip"])
@pytest.mark.parametrize(("anchor", "test"), [pair[:2] for pair in PAIRS])
def test_an_independent_computation_agrees(anchor: str, test: str, method: str) -> None:
    found = delta(KODAK[anchor], KODAK[test], method)
    assert found.rate == pytest.approx(rate_by_sums(KODAK[anchor], KODAK[test], method), abs=1e-3)
    assert rate_difference(KODAK[anchor], KODAK[test], method) == found.rate


@each_method
def test_a_curve_of_half_the_rate_saves_half(method: str) -> None:
    halved = [(rate / 2, quality) for rate, quality in KODAK["base"]]
    found = delta(KODAK["base"], halved, method)
    assert found.rate == pytest.approx(-50.0, abs=1e-6)
    assert found.quality > 1.0
    assert found.overlap == 1.0


@each_method
def test_the_order_of_points_and_points_without_error_do_not_matter(method: str) -> None:
    more = [(9.0, float("inf")), *reversed(KODAK["sga"])]
    assert delta(KODAK["base"], more, method) == delta(KODAK["base"], KODAK["sga"], method)


def test_the_overlap_is_the_common_part_of_both_ranges_of_quality() -> None:
    low, high = KODAK["base"][0][1], KODAK["sga"][-1][1]
    shared = KODAK["base"][-1][1] - KODAK["sga"][0][1]
    assert delta(KODAK["base"], KODAK["sga"], "cubic").overlap == pytest.approx(shared / (high - low))


@pytest.mark.parametrize(
    ("test", "method", "why"),
    [
        (KODAK["sga"][:3], "cubic", "cubic needs 4 points"),
        (KODAK["sga"][:2], "akima", "akima needs 3 points"),
        ([(rate, quality + 50) for rate, quality in KODAK["sga"]], "akima", "do not overlap"),
        ([(rate * 99, quality) for rate, quality in KODAK["sga"]], "akima", "do not overlap"),
        ([(0.1, 30.0), (0.2, 29.0), (0.3, 31.0)], "pchip", "does not rise"),
        ([(0.1, 30.0), (0.1, 30.0), (0.3, 31.0)], "pchip", "does not rise"),
    ],
)
def test_what_cannot_be_compared_says_why(test: list[tuple[float, float]], method: str, why: str) -> None:
    with pytest.raises(Incomparable, match=why):
        delta(KODAK["base"], test, method)


def test_an_unknown_method_and_a_missing_library_are_told_with_a_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(
        CodingError, match=r"no interpolation named linear; methods= takes some of: akima, cubic, pchip"
    ):
        delta(KODAK["base"], KODAK["sga"], "linear")
    monkeypatch.setitem(sys.modules, "bjontegaard", None)
    with pytest.raises(CodingError, match=r"pip install -e .\[metrics\]"):
        delta(KODAK["base"], KODAK["sga"], "cubic")


def test_an_interval_of_a_mean_is_that_of_the_normal_distribution() -> None:
    values = np.random.default_rng(1).normal(-10.0, 2.0, 400)
    found = interval(lambda weights: float(weights @ values), 400, 2000, seed=0)
    assert found is not None
    error = 1.96 * values.std() / 20.0
    assert found == pytest.approx((values.mean() - error, values.mean() + error), abs=0.03)
    assert found == interval(lambda weights: float(weights @ values), 400, 2000, seed=0)


def test_there_is_no_interval_of_one_picture_nor_where_many_draws_have_no_answer() -> None:
    def fails_often(weights: np.ndarray) -> float:
        if weights[0] > 0:
            raise Incomparable("the ranges do not overlap")
        return 0.0

    assert interval(lambda weights: 0.0, 1, 100, seed=0) is None
    assert interval(fails_often, 5, 100, seed=0) is None


def test_outliers_are_far_from_the_middle_half_and_what_is_not_known_is_none() -> None:
    assert outliers([1.0, 2.0, 3.0, 4.0, 11.0, float("nan")]) == [False, False, False, False, True, False]
    assert outliers([1.0, 2.0, 999.0]) == [False] * 3
