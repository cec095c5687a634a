"""What a sweep has measured: one table in the terminal, the same as `summary.csv`, and `summary.png` in its folder."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console
from rich.text import Text

from lightning_modules.errors import CodingError
from lightning_modules.reports.sweep_figure import summary_figure
from lightning_modules.reports.sweep_results import outcomes
from lightning_modules.reports.sweep_table import notes, rows, summary_csv, summary_table
from lightning_modules.system.atomic_file import describe_fault, write_atomically

MEASURING_TASKS = {"test", "fit"}
LOG_WIDTH = 160
"""Columns of a table that no terminal shows, or one that is too narrow: lines that wrap lose no number."""


def summarize(sweep: Path, console: Console | None = None) -> None:
    """Print and write; nothing where no job was to measure. Raises `CodingError` when files cannot be written."""
    measured = [outcome for outcome in outcomes(sweep) if outcome.job.task in MEASURING_TASKS]
    if not measured:
        return
    table = rows(measured)
    console, shown = console or Console(), summary_table(table)
    wide = Console(file=console.file, width=LOG_WIDTH, force_terminal=console.is_terminal)
    fits = console.is_terminal and wide.measure(shown).minimum <= console.width
    (console if fits else wide).print(shown)
    console.print(Text(notes(table)), soft_wrap=True)
    files = {"summary.csv": summary_csv(table).encode("utf-8", "surrogateescape"), "summary.png": summary_figure(table)}
    for name, content in files.items():
        if content is not None:
            _write(sweep / name, content)
            console.print(Text(f"{name.rpartition('.')[0]}: {sweep / name}"), soft_wrap=True)


def _write(path: Path, content: bytes) -> None:
    try:
        write_atomically(path, content)
    except OSError as error:
        raise CodingError(f"{path}: cannot be written: {describe_fault(error)}") from error
