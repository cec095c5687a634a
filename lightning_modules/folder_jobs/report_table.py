"""The table of a folder job: a line per input as CSV, and what its further columns come to over the folder."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from lightning_modules.errors import CodingError
from lightning_modules.folder_jobs.file_names import printable
from lightning_modules.folder_jobs.journal import Row
from lightning_modules.records import PICTURES_IN_FILE, REPORT_COLUMNS

ERROR = "_error"
"""Ends the name of the column that has the standard errors of another one."""


def refuse_to_replace_table(path: Path) -> None:
    """`CodingError` where a table of that name is none that a job has written: it may be somebody's only copy."""
    if path.is_file() and not path.read_bytes().startswith(b",".join(map(str.encode, REPORT_COLUMNS[:2]))):
        raise CodingError(f"{printable(str(path))}: exists and is no report; move it away or give another output=")


def totals(rows: Sequence[Row], columns: Iterable[str]) -> list[str]:
    """Return a line for `bpp` and each column beyond the usual ones, with its standard error; none without such."""
    usual = {*REPORT_COLUMNS, PICTURES_IN_FILE}
    measured = {column for row in rows for column, value in row.items() if value is not None}
    further = [one for one in columns if one in measured and one not in usual and not one.endswith(ERROR)]
    return [_total(rows, column) for column in (["bpp", *further] if further else [])]


def _total(rows: Sequence[Row], column: str) -> str:
    """Return the mean of `column` over all pictures that have a number there.

    Large pictures count for more in bits per pixel, and all alike in everything else. Their standard errors, where
    they are known, count as independent of each other.
    """
    counted = [row for row in rows if row.get(column) is not None]
    weights = [row["height"] * row["width"] if column.startswith("bpp") else 1 for row in counted]
    mean = sum(row[column] * weight for row, weight in zip(counted, weights, strict=True)) / sum(weights)
    errors = [row[column + ERROR] for row in counted if row.get(column + ERROR) is not None]
    if len(errors) < len(counted):
        return f"{column} of {len(counted)} pictures: {mean:.5f}"
    error = math.hypot(*(error * weight for error, weight in zip(errors, weights, strict=True))) / sum(weights)
    return f"{column} of {len(counted)} pictures: {mean:.5f}, standard error {error:.5f}"


def table(rows: Sequence[Row], columns: Iterable[str]) -> str:
    """CSV, with a head."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(columns), lineterminator="\n")
    writer.writeheader()
    writer.writerows({column: _cell(row.get(column)) for column in columns} for row in rows)
    return text.getvalue()


def _cell(value: Any) -> Any:
    """Empty for what is not known; six decimals are beyond what any of the numbers means."""
    return "" if value is None else round(value, 6) if isinstance(value, float) else value
