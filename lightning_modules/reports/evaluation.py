"""All that a report says, computed once: the page, the figure and the data files show the same record."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from lightning_modules.reports.deltas import CurveDelta, PictureDelta, choose_anchor, curve_delta, picture_deltas
from lightning_modules.reports.measured_curves import Material
from lightning_modules.reports.rate_curve import RateCurve
from lightning_modules.reports.rate_panels import Measure, measures
from lightning_modules.reports.run_folder import RunFolder


class Evaluation(NamedTuple):
    """anchor: None where no curve is lossy. pictures: BD-rate of each by `methods[0]`, by curve, where there is one.

    left_out: folder -> why it counts for nothing. max_bpp: of what charts show.
    """

    runs: Mapping[str, RunFolder]
    left_out: Mapping[str, str]
    curves: list[RateCurve]
    measures: list[Measure]
    max_bpp: float
    anchor: RateCurve | None
    methods: Sequence[str]
    resamples: int
    deltas: list[CurveDelta]
    pictures: dict[str, list[PictureDelta]]

    @property
    def lossy(self) -> list[RateCurve]:
        return [one for one in self.curves if one.is_lossy]

    @property
    def lossless(self) -> list[RateCurve]:
        return [one for one in self.curves if one.is_lossless]

    @property
    def ceilings(self) -> list[RateCurve]:
        return [one for one in self.curves if one.is_ceiling and not one.is_lossless]


def evaluate(
    material: Material,
    anchor: str | None,
    methods: Sequence[str],
    resamples: int,
    seed: int,
    max_bpp: float | None = None,
) -> Evaluation:
    """Evaluate curves. max_bpp: None for twice the highest rate of what is no baseline.

    Raises `CodingError` for an anchor that is not there, and for an unknown method.
    """
    lossy = [one for one in material.curves if one.is_lossy]
    shown = measures(lossy)
    limit = _usual_limit(lossy, material.runs) if max_bpp is None else max_bpp
    found = Evaluation(
        material.runs, material.left_out, material.curves, shown, limit, None, methods, resamples, [], {}
    )
    if not lossy:
        return found
    chosen = choose_anchor(lossy, anchor)
    others = [one for one in lossy if one is not chosen]
    pictures = {one.name: picture_deltas(chosen, one, methods[0]) for one in others}
    return found._replace(
        anchor=chosen,
        deltas=[curve_delta(chosen, one, method, resamples, seed) for one in others for method in methods],
        pictures={name: rows for name, rows in pictures.items() if any(row.rate == row.rate for row in rows)},
    )


def _usual_limit(curves: Sequence[RateCurve], runs: Mapping[str, RunFolder]) -> float:
    """Baselines reach rates at which everything else would be a dot in a corner."""
    points = [point for curve in curves for point in curve.points]
    rates = [point.bpp for point in points if point.run not in runs or not runs[point.run].is_baseline]
    return 2.0 * max(rates) if rates else math.inf
