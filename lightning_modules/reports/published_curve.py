"""Curves in CompressAI's JSON schema: those that others have published, read; ours, written for its plots.

{"name": "mbt2018", "description": "...", "results": {"bpp": [...], "psnr-rgb": [...], "ms-ssim-rgb": [...]}}
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from lightning_modules.errors import CodingError
from lightning_modules.reports.rate_curve import Point, RateCurve, curve, with_decibels

COLUMNS = {
    "bpp": "bpp",
    "psnr-rgb": "psnr",
    "ms-ssim-rgb": "ms_ssim",
    "psnr": "psnr",
    "ms-ssim": "ms_ssim",
    "encoding_time": "encode_seconds",
    "decoding_time": "decode_seconds",
}
"""Their names -> ours."""

WRITTEN = ("bpp", "psnr-rgb", "ms-ssim-rgb", "encoding_time", "decoding_time")
"""Of several names that mean the same, those that their plots expect."""


def read_published(path: Path) -> RateCurve:
    """Return a curve without single pictures. Raises `CodingError` for a file of another schema."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CodingError(f"{path}: cannot be read as JSON ({error}); give a file of CompressAI's schema") from None
    results = document.get("results") if isinstance(document, dict) else None
    known = results if isinstance(results, dict) else {}
    columns = {ours: known[theirs] for theirs, ours in reversed(COLUMNS.items()) if theirs in known}
    if not _is_table(columns) or not {"bpp", "psnr"} <= columns.keys():
        raise CodingError(f"{path}: not of CompressAI's schema; it needs results with bpp and psnr-rgb, equally long")
    rows = [dict(zip(columns, map(float, values), strict=True)) for values in zip(*columns.values(), strict=True)]
    points = [Point(f"point {k}", with_decibels(row), {}, {}, str(path)) for k, row in enumerate(rows, 1)]
    return curve(str(document.get("name") or path.stem), points, str(document.get("description") or ""))


def published_form(one: RateCurve) -> dict[str, Any]:
    """Return a curve as a document of the schema: columns that every point has."""
    found: dict[str, list[float]] = {}
    for theirs in WRITTEN:
        values = [point.quality(COLUMNS[theirs]) for point in one.points]
        if all(map(math.isfinite, values)):
            found[theirs] = values
    return {"name": one.name, "description": one.settings, "results": found}


def _is_table(columns: dict[str, Any]) -> bool:
    """Return whether these are lists of numbers, equally long and not empty."""
    lists = [column for column in columns.values() if isinstance(column, list)]
    numbers = all(isinstance(value, (int, float)) for column in lists for value in column)
    return (
        bool(columns)
        and len(lists) == len(columns)
        and len({len(c) for c in lists}) == 1
        and bool(lists[0])
        and numbers
    )
