"""How two sides are timed by turns, and what the ratios and goals say."""

from __future__ import annotations

import pytest

from benchmarks.measurement import (
    Goal,
    Measurement,
    Pair,
    duration,
    interleave,
    quartiles,
    relative_size,
    relative_time,
    speed_up,
)


def test_the_sides_take_turns_and_the_first_turn_alternates() -> None:
    calls: list[str] = []
    interleave(lambda: calls.append("ours"), lambda: calls.append("theirs"), rounds=3)
    assert calls == ["ours", "theirs", "ours", "theirs", "theirs", "ours", "ours", "theirs"]


def test_each_side_is_charged_its_own_time() -> None:
    now = [0.0]

    def wait(seconds: float) -> None:
        now[0] += seconds

    pairs = interleave(lambda: wait(2.0), lambda: wait(6.0), rounds=4, clock=lambda: now[0])
    assert pairs == [Pair(2.0, 6.0)] * 4


def test_a_speed_up_is_their_time_over_ours_and_a_relative_time_the_reverse() -> None:
    pairs = [Pair(1.0, 2.0), Pair(1.0, 4.0), Pair(2.0, 6.0)]
    assert speed_up(6, "speed", pairs, Goal(">=", 3.0)).value == pytest.approx(3.0)
    assert speed_up(6, "speed", pairs, Goal(">=", 3.0)).reached
    assert relative_time(7, "time", pairs, Goal("<=", 0.3)).value == pytest.approx(1 / 3)
    assert not relative_time(7, "time", pairs, Goal("<=", 0.3)).reached


def test_sizes_are_compared_by_their_totals() -> None:
    measurement = relative_size(3, "bytes", [Pair(10, 10), Pair(80, 90)], Goal("<=", 0.9))
    assert measurement.value == pytest.approx(0.9)
    assert measurement.reached
    assert measurement.theirs == "100 B"


def test_a_line_without_a_goal_neither_reaches_nor_misses_it() -> None:
    assert Measurement(8, "context", 5.0, (5.0, 5.0), "1 s", "5 s", None).reached is None


@pytest.mark.parametrize(
    ("values", "expected"),
    [([3.0], (3.0, 3.0)), ([1.0, 2.0, 3.0, 4.0, 5.0], (2.0, 4.0)), ([1.0, 3.0], (1.5, 2.5))],
)
def test_the_spread_is_the_quartiles(values: list[float], expected: tuple[float, float]) -> None:
    assert quartiles(values) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("seconds", "text"), [(61.0, "61.00 s"), (0.0153, "15.3 ms"), (1.0, "1.00 s"), (0.00034, "340 µs")]
)
def test_durations_carry_the_unit_that_suits_them(seconds: float, text: str) -> None:
    assert duration(seconds) == text
