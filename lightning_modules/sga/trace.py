"""The trace of a refinement: a record per image and evaluation, as numbers in a CSV and as a picture of curves."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Sequence
from typing import NamedTuple

from lightning_modules.reports.chart import Panel, Series, draw


class Record(NamedTuple):
    """The measurements of one image after `step` updates.

    temperature, method_loss: of the step that led here; NaN before the first. true_loss, bpp, psnr (8-bit pixels),
    psnr_float: of the hard-rounded latents, with the coding tables. seconds: since the refinement began.
    """

    step: int
    temperature: float
    method_loss: float
    true_loss: float
    bpp: float
    psnr: float
    psnr_float: float
    seconds: float


class Trace(list[Record]):
    """The records of one image, by step."""

    def csv(self) -> str:
        """Write a line per record, its fields as columns; NaN leaves its place empty."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(Record._fields)
        writer.writerows(["" if value != value else f"{value:.8g}" for value in record] for record in self)
        return text.getvalue()

    def png(self) -> bytes:
        """Draw losses, bits per pixel and PSNR against the step, as a PNG."""
        losses = [self._series("true", "true_loss"), self._series("method", "method_loss")]
        panels = [
            Panel("loss = lmbda * distortion + bpp", "step", "loss", losses),
            Panel("rate", "step", "bits per pixel", [self._series("", "bpp")]),
            Panel("quality", "step", "PSNR in dB", [self._series("", "psnr")]),
        ]
        return draw(panels)

    def _series(self, label: str, column: str) -> Series:
        return Series(label, [(record.step, getattr(record, column)) for record in self])


Listener = Callable[[Sequence[Trace], float], None]
"""Told after each evaluation: the traces so far, one an image, and the share of the refinement that is done."""
