"""What one row of the table says, and how two contenders are timed side by side."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

Clock = Callable[[], float]
"""Seconds from an arbitrary start: `time.process_time` (robust on a busy machine) or `time.perf_counter`."""


class Settings(NamedTuple):
    """What a user may choose.

    ckpt: a mean-scale hyperprior, as run.py's `ckpt=`. pictures: folder of PNGs; None for the sample photos.
    images: how many of them. rounds: repetitions of each timing.
    """

    ckpt: str
    pictures: Path | None
    images: int
    rounds: int


class Goal(NamedTuple):
    """`value` is reached from below ("<=") or from above (">="); bounds include equality."""

    bound: str
    value: float

    def reached(self, value: float) -> bool:
        return value <= self.value if self.bound == "<=" else value >= self.value


@dataclass(frozen=True)
class Measurement:
    """One line of the table.

    value: what the goal judges, a ratio or seconds (then `unit` says so). spread: its quartiles.
    ours, theirs: medians of the two sides as text with units. goal: None for a line given for context.
    """

    row: int
    what: str
    value: float
    spread: tuple[float, float]
    ours: str
    theirs: str
    goal: Goal | None
    unit: str = ""

    @property
    def reached(self) -> bool | None:
        return None if self.goal is None else self.goal.reached(self.value)


class Pair(NamedTuple):
    """Seconds, or bytes, of one round or one picture."""

    ours: float
    theirs: float


def interleave(
    ours: Callable[[], object], theirs: Callable[[], object], *, rounds: int, clock: Clock = time.process_time
) -> list[Pair]:
    """Measure seconds of both sides, by turns and with the first turn alternating, after one warm-up of each."""
    ours(), theirs()
    pairs = []
    for k in range(rounds):
        if k % 2:
            seconds_theirs, seconds_ours = seconds(theirs, clock), seconds(ours, clock)
        else:
            seconds_ours, seconds_theirs = seconds(ours, clock), seconds(theirs, clock)
        pairs.append(Pair(seconds_ours, seconds_theirs))
    return pairs


def seconds(action: Callable[[], object], clock: Clock) -> float:
    """Return how long one call takes."""
    start = clock()
    action()
    return clock() - start


def quartiles(values: Sequence[float]) -> tuple[float, float]:
    """Return 25 % and 75 %; of one value, that value twice."""
    if len(values) < 2:
        return values[0], values[0]
    low, _, high = statistics.quantiles(values, n=4, method="inclusive")
    return low, high


def speed_up(row: int, what: str, pairs: Sequence[Pair], goal: Goal | None) -> Measurement:
    """Return how many times faster ours is: median of theirs / ours over the rounds."""
    return _of_ratios(row, what, pairs, [pair.theirs / pair.ours for pair in pairs], goal)


def relative_time(row: int, what: str, pairs: Sequence[Pair], goal: Goal | None) -> Measurement:
    """Return how long ours takes as a share of theirs: median of ours / theirs over the rounds."""
    return _of_ratios(row, what, pairs, [pair.ours / pair.theirs for pair in pairs], goal)


def relative_size(row: int, what: str, pairs: Sequence[Pair], goal: Goal | None) -> Measurement:
    """Return the ratio of the two sides' total bytes; the spread is over pictures."""
    ours, theirs = (sum(side) for side in zip(*pairs, strict=True))
    spread = quartiles([pair.ours / pair.theirs for pair in pairs])
    return Measurement(row, what, ours / theirs, spread, f"{ours:,.0f} B", f"{theirs:,.0f} B", goal)


def _of_ratios(row: int, what: str, pairs: Sequence[Pair], ratios: list[float], goal: Goal | None) -> Measurement:
    ours, theirs = (duration(statistics.median(side)) for side in zip(*pairs, strict=True))
    return Measurement(row, what, statistics.median(ratios), quartiles(ratios), ours, theirs, goal)


def duration(value: float) -> str:
    """Seconds with the unit that suits them."""
    if value >= 1:
        return f"{value:.2f} s"
    return f"{value * 1e3:.3g} ms" if value >= 1e-3 else f"{value * 1e6:.3g} µs"
