"""Rates of channels and spreads of values as a figure, for loggers that draw none themselves."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

SIZE = (9.0, 3.2)
"""Inches."""

FLOOR = 1e-6
"""Least bits per pixel that are drawn: channels below it are off."""


def latent_figure(channels: Mapping[str, NDArray[np.float64]], spreads: Mapping[str, Any]) -> bytes:
    """Return a PNG: left, bits per pixel of each channel, sorted, a line for each latent; right, how values are spread.

    channels: (C,) by latent. spreads: (counts, edges) by latent.
    """
    figure = Figure(figsize=SIZE, layout="constrained")
    left, right = figure.subplots(1, 2)
    for name, rates in channels.items():
        left.plot(np.sort(rates)[::-1].clip(FLOOR), label=f"{name}, {rates.sum():.3f} bpp in all")
    left.set(xlabel="channel, sorted by rate", ylabel="bits per pixel", yscale="log")
    for name, (counts, edges) in spreads.items():
        right.stairs(counts / counts.sum() / np.diff(edges), edges, label=name)
    right.set(xlabel="value before rounding", ylabel="density", yscale="log")
    for axes in (left, right):
        if axes.get_legend_handles_labels()[1]:
            axes.legend(fontsize="small")
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=100, metadata={"Software": None})
    return file.getvalue()
