"""From folders and files to curves: runs that differ only along the rate are one curve, named by what sets it apart."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from lightning_modules.errors import CodingError
from lightning_modules.reports.published_curve import read_published
from lightning_modules.reports.rate_curve import Point, RateCurve, curve, means, unique_names
from lightning_modules.reports.run_folder import RunFolder, find_runs, numbers, read_run
from lightning_modules.reports.sweep_figure import RATE_SETTINGS
from lightning_modules.sweeps.overrides import short_key

MACHINERY = {"task", "logger", "input", "output", "trainer", "threads", "resume", "name", "paths", "hydra", "callbacks"}
"""Settings, or groups of them, that change no number."""

ZOO = "compressai:"
"""Begins a checkpoint that is named by architecture and rung: `compressai:mbt2018-mean/3`."""


class Material(NamedTuple):
    """runs: folders by the names they are shown under. left_out: those that failed, and why."""

    runs: dict[str, RunFolder]
    curves: list[RateCurve]
    left_out: dict[str, str]


def read_material(inputs: Sequence[Path]) -> Material:
    """Read folders of runs, sweeps and baselines, and JSON files. Raises `CodingError` where one has no results."""
    runs: dict[str, RunFolder] = {}
    left_out: dict[str, str] = {}
    published: list[RateCurve] = []
    baselines: list[RunFolder] = []
    measured: list[RunFolder] = []
    for root in inputs:
        if root.is_file():
            published.append(read_published(root))
            continue
        for folder in find_runs(root):
            run = read_run(folder)
            if run.error is not None:
                left_out[str(folder)] = run.error
            elif str(folder) not in runs:
                runs[str(folder)] = run
                (baselines if run.is_baseline else measured).append(run)
    curves = [*run_curves(measured), *(one for run in baselines for one in baseline_curves(run)), *published]
    if not curves:
        raise CodingError(f"{inputs[0]}: nothing in it was measured ({next(iter(left_out.values()))}); run it again")
    return Material(runs, unique_names(curves), left_out)


def run_curves(runs: Sequence[RunFolder]) -> list[RateCurve]:
    """Runs with equal settings but for the rate are one curve; a run that repeats a point begins another one."""
    groups: dict[tuple[tuple[str, str], ...], dict[str, list[Point]]] = {}
    for run in runs:
        point = run_point(run)
        layers = groups.setdefault(tuple(sorted(identity(run).items())), {})
        layers.setdefault(point.label, []).append(point)
    names = _names([dict(key) for key in groups])
    curves = []
    for (key, layers), name in zip(groups.items(), names, strict=True):
        settings = ", ".join(f"{setting}={value}" for setting, value in key)
        for depth in range(max(map(len, layers.values()))):
            points = [points[depth] for points in layers.values() if len(points) > depth]
            curves.append(curve(name, points, settings))
    return curves


def baseline_curves(run: RunFolder) -> list[RateCurve]:
    """Return a curve for each codec of the table, a point for each setting; what failed is missing from the points."""
    curves = []
    for codec, rows in run.group("codec").items():
        failed = [row for row in rows if row["status"] != "ok"]
        coded = run._replace(rows=[row for row in rows if row["status"] == "ok"])
        points = [
            _point(f"setting {setting}", run._replace(rows=some + _absent(failed, some)))
            for setting, some in coded.group("setting").items()
        ]
        if points:
            curves.append(curve(codec, points, rows[0].get("settings", "")))
    return curves


def _absent(failed: Sequence[dict[str, str]], rows: Sequence[dict[str, str]]) -> list[dict[str, str]]:
    """Those of pictures that have no row: a codec may fail at some of its settings only."""
    names = {row["name"] for row in rows}
    return [row for row in failed if row["name"] not in names]


def run_point(run: RunFolder) -> Point:
    return _point(_label(run), run)


def identity(run: RunFolder) -> dict[str, str]:
    """Return the settings that set the run's curve apart from others; the folder's name where none were kept."""
    if not run.overrides:
        return {"run": run.path.parent.name}
    kept = {key: value for key, value in run.overrides.items() if key.split(".")[0] not in MACHINERY}
    kept = {key: value for key, value in kept.items() if key.rpartition(".")[2] not in RATE_SETTINGS}
    checkpoint = kept.pop("ckpt", "")
    if checkpoint.startswith(ZOO):
        kept["ckpt"] = checkpoint.rpartition("/")[0]
    elif checkpoint and "/" not in checkpoint and "." not in checkpoint:  # a word; a path is one rung of a ladder
        kept["ckpt"] = checkpoint
    return kept


def _label(run: RunFolder) -> str:
    checkpoint = run.overrides.get("ckpt", "")
    if checkpoint.startswith(ZOO):
        return f"quality {checkpoint.rpartition('/')[2]}"
    steered = [f"{short_key(key)} {value}" for key, value in run.overrides.items() if _steers(key)]
    lmbda = next((row["lmbda"] for row in run.rows if row.get("lmbda")), "")
    return ", ".join(steered) or (f"lmbda {lmbda}" if lmbda else run.path.name)


def _steers(key: str) -> bool:
    """Return whether a setting makes another point at the same lambda."""
    return key.rpartition(".")[2] in RATE_SETTINGS - {"lmbda"}


def _point(label: str, run: RunFolder) -> Point:
    measured = {row["name"]: numbers(row, run.path) for row in run.rows if row["status"] == "ok"}
    failed = {row["name"]: row.get("error") or "failed" for row in run.rows if row["status"] != "ok"}
    return Point(label, means(measured.values()), measured, failed, str(run.path))


def _names(identities: Sequence[dict[str, str]]) -> list[str]:
    """By what differs; where nothing does, by the experiment."""
    keys = list(dict.fromkeys(key for one in identities for key in one))
    differing = [key for key in keys if len({one.get(key) for one in identities}) > 1]
    chosen = differing or [key for key in ("experiment", "ckpt", "run") if key in keys][:1]
    return [_name({key: one[key] for key in chosen if key in one}, differing) for one in identities]


def _name(settings: dict[str, str], others: Sequence[str]) -> str:
    words = [value if key.isalpha() else f"{short_key(key, others)}={value}" for key, value in settings.items()]
    return ", ".join(words) or "latentpress"
