"""The lossy curves as panels: PSNR, MS-SSIM and every other distance that was measured, each against rate."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from lightning_modules.records import PICTURES_IN_FILE
from lightning_modules.reports.chart import Panel, Series
from lightning_modules.reports.rate_curve import Point, RateCurve
from lightning_modules.reports.sweep_results import USUAL_COLUMNS

RATE = "bits per pixel of the file"


class Measure(NamedTuple):
    """A column of quality or distance. unit: empty for none. layout: of its numbers."""

    column: str
    title: str
    unit: str
    layout: str

    @property
    def axis(self) -> str:
        return f"{self.title} in {self.unit}" if self.unit else self.title

    def text(self, value: float) -> str:
        if math.isnan(value):
            return "-"
        return f"{value:{self.layout}} {self.unit}".strip() if math.isfinite(value) else "no error"


PSNR = Measure("psnr", "PSNR", "dB", ".2f")
MS_SSIM = Measure("ms_ssim_db", "MS-SSIM", "dB", ".2f")


def measures(curves: Sequence[RateCurve]) -> list[Measure]:
    """PSNR, MS-SSIM where it is known, then the further columns that some point has, in their order."""
    found = dict.fromkeys(name for one in curves for point in one.points for name in point.means)
    further = [name for name in found if is_distance(name)]
    known = [PSNR, *([MS_SSIM] if MS_SSIM.column in found else [])]
    return [*known, *(Measure(name, name, "", ".4f") for name in further)]


def is_distance(column: str) -> bool:
    """Return whether a column is a distance: rates of accounts, standard errors and what files hold are none."""
    usual = {*USUAL_COLUMNS, MS_SSIM.column, "chain", PICTURES_IN_FILE}
    return column not in usual and not column.startswith("bpp_") and not column.endswith("_error")


def panels(curves: Sequence[RateCurve], shown: Sequence[Measure], max_bpp: float) -> list[Panel]:
    """Points in the order of rate, named for those who point at them; curves keep their place in all panels."""
    return [
        Panel(f"{one.title} and rate", RATE, one.axis, [_series(curve, one, max_bpp) for curve in curves])
        for one in shown
    ]


def _series(curve: RateCurve, measure: Measure, max_bpp: float) -> Series:
    shown = [point for point in curve.points if point.bpp <= max_bpp]
    points = [(point.bpp, point.quality(measure.column)) for point in shown]
    return Series(curve.name, points, [_name(point, measure) for point in shown])


def _name(point: Point, measure: Measure) -> str:
    return f"{point.label}: {point.bpp:.4f} bpp, {measure.text(point.quality(measure.column))}"


def without_names(given: Sequence[Panel]) -> list[Panel]:
    """Leave out names, for paper, where nothing can be pointed at and they would cover the curves."""
    return [panel._replace(series=[series._replace(names=()) for series in panel.series]) for panel in given]
