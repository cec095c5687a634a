"""The progress of a refinement: a line in the log now and then, with the time that is left."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import timedelta
from statistics import fmean

from rich.console import Console

from lightning_modules.sga.trace import Trace


class Progress:
    """A listener that prints `refining: step 400, true loss 0.9312 (-4.1 %), 0.281 bpp, 33.12 dB, 0:03:20 left`.

    interval: seconds between two lines. The numbers are means over the images. In a terminal a
    line comes above the bar.
    """

    def __init__(self, *, interval: float, console: Console | None = None) -> None:
        self.interval = interval
        self.console = console or Console(stderr=True)
        self.last_line = 0.0

    def __call__(self, traces: Sequence[Trace], share: float) -> None:
        now = time.monotonic()
        if len(traces[0]) == 1:  # the image has only begun
            self.last_line = now
        elif now - self.last_line >= self.interval:
            self._print(traces, share, now)

    def _print(self, traces: Sequence[Trace], share: float, now: float) -> None:
        self.last_line = now
        self.console.print(line(traces, share), highlight=False, soft_wrap=True)


def line(traces: Sequence[Trace], share: float) -> str:
    """Write one line. share: of the refinement that is done, in [0, 1]."""
    latest, first = [trace[-1] for trace in traces], [trace[0] for trace in traces]
    loss, base = (fmean(record.true_loss for record in records) for records in (latest, first))
    bpp, psnr = fmean(record.bpp for record in latest), fmean(record.psnr for record in latest)
    words = [f"refining: step {latest[0].step}", f"true loss {loss:.4f} ({100 * (loss / base - 1):+.1f} %)"]
    words += [f"{bpp:.3f} bpp", f"{psnr:.2f} dB"]
    if 0 < share < 1:
        words.append(f"{timedelta(seconds=round(latest[0].seconds * (1 - share) / share))} left")
    return ", ".join(words)
