"""The report for programs: everything as JSON, every picture as CSV, each curve in CompressAI's schema."""

from __future__ import annotations

import csv
import io
import json
import math
from typing import Any

from lightning_modules.reports.evaluation import Evaluation
from lightning_modules.reports.published_curve import published_form
from lightning_modules.reports.rate_curve import Point, RateCurve
from lightning_modules.reports.run_folder import RunFolder


def as_json(document: Any) -> bytes:
    """Strict JSON: what is not finite is null."""
    return (json.dumps(_finite(document), indent=1, ensure_ascii=True, allow_nan=False) + "\n").encode()


def results_json(evaluation: Evaluation) -> dict[str, Any]:
    """Curves with their points, differences from the anchor, and what explains each run."""
    return {
        "anchor": evaluation.anchor and evaluation.anchor.name,
        "bd_methods": list(evaluation.methods),
        "bd_resamples": evaluation.resamples,
        "curves": [_curve(one) for one in evaluation.curves],
        "differences": [one.as_record() for one in evaluation.deltas],
        "pictures": {name: [row._asdict() for row in rows] for name, rows in evaluation.pictures.items()},
        "left_out": dict(evaluation.left_out),
        "runs": {name: _run(run) for name, run in evaluation.runs.items()},
    }


def results_csv(evaluation: Evaluation) -> str:
    """Return a row for each picture at each point."""
    rows = [row for curve in evaluation.curves for point in curve.points for row in _rows(curve, point)]
    columns = dict.fromkeys(name for row in rows for name in row)
    text = io.StringIO()
    writer = csv.DictWriter(text, [*columns], lineterminator="\n", restval="")
    writer.writeheader()
    for row in rows:
        writer.writerow({name: f"{v:.10g}" if isinstance(v, float) else v for name, v in row.items()})
    return text.getvalue()


def published_files(evaluation: Evaluation) -> dict[str, Any]:
    """Return the files of the lossy curves, by the name of the curve."""
    return {one.name: published_form(one) for one in evaluation.lossy}


def _rows(curve: RateCurve, point: Point) -> list[dict[str, Any]]:
    common = {"curve": curve.name, "point": point.label, "run": point.run}
    measured = [{**common, "name": name, "status": "ok", "error": "", **n} for name, n in point.pictures.items()]
    failed = [{**common, "name": name, "status": "failed", "error": why} for name, why in point.failed.items()]
    return measured + failed


def _curve(one: RateCurve) -> dict[str, Any]:
    points = [
        {
            "label": point.label,
            "run": point.run,
            "num_pictures": len(point.pictures),
            "failed": dict(point.failed),
            "means": dict(point.means),
        }
        for point in one.points
    ]
    return {"name": one.name, "settings": one.settings, "points": points}


def _run(run: RunFolder) -> dict[str, Any]:
    return {
        "overrides": dict(run.overrides),
        "provenance": dict(run.provenance),
        "complexity": dict(run.complexity),
    }


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
