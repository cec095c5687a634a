"""The measurements as a table for people and as JSON for later."""

from __future__ import annotations

import json
import platform
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import torch
from rich.table import Table

from benchmarks.measurement import Measurement


def render(measurements: Sequence[Measurement]) -> Table:
    """Return one line each; a value that misses its goal is red."""
    table = Table(title="ours against theirs: medians, quartiles in brackets", title_justify="left")
    for heading in ("row", "what", "ours", "theirs", "value", "spread", "goal"):
        is_prose = heading == "what"
        table.add_column(heading, justify="left" if is_prose else "right", no_wrap=not is_prose)
    for m in measurements:
        colour = {True: "green", False: "red", None: "default"}[m.reached]
        table.add_row(
            str(m.row),
            m.what,
            m.ours,
            m.theirs,
            f"[{colour}]{_number(m.value)}{m.unit}[/]",
            rf"\[{_number(m.spread[0])}, {_number(m.spread[1])}]",
            f"{m.goal.bound} {_number(m.goal.value)}{m.unit}" if m.goal else "",
        )
    return table


def save(measurements: Sequence[Measurement], path: Path) -> None:
    """Write every field of every line, and the machine and versions they were measured with."""
    results = {
        "machine": f"{platform.machine()} {platform.system()}, torch {torch.__version__}",
        "measurements": [asdict(m) | {"reached": m.reached} for m in measurements],
    }
    path.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


def _number(value: float) -> str:
    return f"{value:.4g}" if abs(value - 1) > 0.1 else f"{value:.4f}"
