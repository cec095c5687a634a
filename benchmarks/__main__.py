"""`python -m benchmarks`: measures the rows and prints the ratio table."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator, Sequence
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from benchmarks.measurement import Measurement, Settings

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parent
WIDTH = 130
"""Columns of the table where no terminal says how many there are."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code 0 when every row was measured, whether or not it reaches its goal."""
    options = parser().parse_args(arguments)
    os.environ["OMP_NUM_THREADS"] = str(options.threads)

    import torch
    from rich.console import Console

    from benchmarks.measurement import Settings
    from benchmarks.ratio_table import render, save
    from lightning_modules.system.heap import keep_freed_memory

    keep_freed_memory()  # as run.py does; both sides of a row have it
    torch.set_num_threads(options.threads)
    settings = Settings(options.ckpt, options.pictures, options.images, options.rounds)
    console = Console(stderr=True)
    measurements, faults = [], []
    for row in chosen_rows(options.only):
        console.print(f"row {row.NUMBER}: {row.__name__.rpartition('.')[2]} ...")
        try:
            measurements += measured(row, settings)
        except Exception as error:
            faults.append(f"row {row.NUMBER} could not be measured: {type(error).__name__}: {error}")
    Console(width=None if sys.stdout.isatty() else WIDTH).print(render(measurements))
    save(measurements, options.output)
    for fault in faults:
        console.print(fault, style="red", markup=False)
    return 1 if faults else 0


def parser() -> argparse.ArgumentParser:
    """Return the command line; nothing heavy is imported for `--help`."""
    result = argparse.ArgumentParser("python -m benchmarks", description=__doc__)
    result.add_argument("--only", type=_numbers, metavar="3,4", help="rows to measure (default: all)")
    result.add_argument("--images", type=int, default=24, help="pictures per row (default: 24)")
    result.add_argument("--rounds", type=int, default=15, help="repetitions of each timing (default: 15)")
    result.add_argument("--threads", type=int, default=1, help="threads of torch (default: 1)")
    result.add_argument(
        "--pictures",
        type=Path,
        default=default_pictures(),
        help="folder of PNGs (default: Kodak, or the sample)",
    )
    result.add_argument("--ckpt", default="demo", help="the mean-scale hyperprior to use (default: demo)")
    result.add_argument("--output", type=Path, default=HERE / "results.json", help="JSON file of the results")
    return result


def _numbers(text: str) -> list[int]:
    return [int(number) for number in text.split(",")]


def default_pictures() -> Path | None:
    """Kodak where it usually is, or None for the sample photos."""
    shared = Path(os.environ.get("LATENTPRESS_SHARED", REPOSITORY.parent / "shared"))
    places = (REPOSITORY / "data" / "kodak", shared / "data" / "kodak")
    return next((place for place in places if place.is_dir()), None)


def chosen_rows(only: Sequence[int] | None) -> Iterator[ModuleType]:
    """Return every module of `benchmarks.rows`, by number. Raises SystemExit for numbers that no row has."""
    names = [module.name for module in iter_modules([str(HERE / "rows")])]
    rows = {row.NUMBER: row for row in (import_module(f"benchmarks.rows.{name}") for name in names)}
    unknown = set(only or ()) - set(rows)
    if unknown:
        sys.exit(f"no row {min(unknown)}; there are {', '.join(map(str, sorted(rows)))}")
    return (rows[number] for number in sorted(only or rows))


def measured(row: ModuleType, settings: Settings) -> list[Measurement]:
    """Return what a row says; ValueError when a line carries another row's number."""
    lines: list[Measurement] = row.measure(settings)
    if any(line.row != row.NUMBER for line in lines):
        raise ValueError(f"{row.__name__} returns lines of another row")
    return lines


if __name__ == "__main__":
    sys.exit(main())
