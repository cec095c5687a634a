"""Temperature schedules by the papers' tables; never below 1e-8, never above their bound."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightning_modules.sga.temperature import LOWEST, Temperature, constant, delayed_exponential, exponential, linear

STEPS = (0, 100, 700, 701, 1000, 1999)


@pytest.mark.parametrize(
    ("temperature", "expected"),
    [
        (delayed_exponential(1e-3, 0.5, 700), (0.5, 0.5, 0.5, 0.4995, 0.370409, 0.136402)),
        (exponential(4e-3, 0.2), (0.2, 0.2, 0.060810, 0.060567, 0.018316, 0.000337)),
        (exponential(1e-3, 0.5), (0.5, 0.5, 0.496585, 0.496089, 0.367879, 0.135471)),
        (exponential(1e-3, 1.0), (1, 0.904837, 0.496585, 0.496089, 0.367879, 0.135471)),
        (linear(1e-3, 0.5, 700), (0.5, 0.5, 0.5, 0.499, 0.2, 1e-8)),
        (constant(0.3), (0.3,) * 6),
    ],
    ids=["SGA", "annealing", "SGA+ below 1/2", "SGA+", "linear", "constant"],
)
def test_schedules_are_those_of_the_papers(temperature: Temperature, expected: tuple[float, ...]) -> None:
    assert [temperature(step) for step in STEPS] == pytest.approx(list(expected), abs=5e-7)


def test_a_bounded_exponential_is_one_delayed_until_it_reaches_the_bound() -> None:
    bounded, delayed = exponential(1e-3, 0.5), delayed_exponential(1e-3, 0.5, 0)
    shift = math.log(2) / 1e-3
    assert bounded(1500) == pytest.approx(delayed(1500) * math.exp(1e-3 * shift), rel=1e-12)


@given(st.integers(0, 10**9), st.floats(0, 1e3), st.floats(1e-3, 2.0), st.integers(0, 10**6))
def test_temperatures_stay_within_their_bounds(step: int, rate: float, upper: float, start: int) -> None:
    for temperature in (exponential(rate, upper), delayed_exponential(rate, upper, start), linear(rate, upper, start)):
        assert LOWEST <= temperature(step) <= upper
