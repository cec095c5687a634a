"""Folders that runs leave behind, as a report reads them: what was asked for, what was measured, what explains it."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from omegaconf import OmegaConf

from lightning_modules.errors import CodingError
from lightning_modules.reports.rate_curve import Numbers, with_decibels
from lightning_modules.sweeps.overrides import parse
from lightning_modules.sweeps.record import RECORD_NAME

RESULTS_NAME = "results.csv"
TEXTS = {"name", "status", "error", "lmbda", "codec", "setting", "settings"}
"""Columns that hold no measured number."""

REMEDY = "give the folder of a run of task=test, of a sweep, or of task=baselines"


class RunFolder(NamedTuple):
    """overrides: as typed, by key. error: why it counts for nothing, None where it does. rows: of `results.csv`.

    provenance: name of a fact -> the fact. complexity: of the codec's networks.
    """

    path: Path
    overrides: Mapping[str, str]
    error: str | None
    rows: list[dict[str, str]]
    provenance: Mapping[str, str]
    complexity: Mapping[str, float]

    @property
    def is_baseline(self) -> bool:
        """Return whether its table is one of classical codecs."""
        return "codec" in self.rows[0]

    def group(self, column: str) -> dict[str, list[dict[str, str]]]:
        """Group rows by what they have in a column."""
        groups: dict[str, list[dict[str, str]]] = {}
        for row in self.rows:
            groups.setdefault(row.get(column) or "", []).append(row)
        return groups


def find_runs(root: Path) -> list[Path]:
    """Folders below `root`, itself included, that hold results, in natural order. Raises `CodingError` for none."""
    if not root.is_dir():
        raise CodingError(f"{root}: no such folder; {REMEDY}")
    found = [path.parent for path in root.rglob(RESULTS_NAME) if not _hidden(path.relative_to(root))]
    if not found:
        raise CodingError(f"{root}: holds no {RESULTS_NAME}; {REMEDY}")
    return sorted(found, key=lambda folder: [_natural(part) for part in folder.parts])


def read_run(folder: Path) -> RunFolder:
    """Raises `CodingError` when the table is not one that a run has written."""
    path = folder / RESULTS_NAME
    try:
        with path.open(newline="", encoding="utf-8", errors="surrogateescape") as file:
            rows = list(csv.DictReader(file))
    except (OSError, csv.Error) as error:
        raise CodingError(f"{path}: cannot be read ({error}); run the test again") from None
    if not rows or not {"name", "status", "bpp", "psnr"} <= rows[0].keys():
        raise CodingError(f"{path}: not a table of results, or an empty one; {REMEDY}")
    record = _read_json(folder / RECORD_NAME)
    overrides = record.get("overrides") or _kept_overrides(folder)
    changes = dict(parse(str(text)) for text in overrides)
    complexity = {name: float(value) for name, value in _read_json(folder / "complexity.json").items()}
    return RunFolder(folder, changes, record.get("error") or _fault(rows), rows, _provenance(folder), complexity)


def numbers(row: Mapping[str, str], where: Path) -> Numbers:
    """Return what was measured of a picture. Raises `CodingError` for a cell that is no number."""
    try:
        values = {name: float(text) for name, text in row.items() if text and name not in TEXTS}
    except (TypeError, ValueError):
        raise CodingError(f"{where / RESULTS_NAME}: the row of {row.get('name')} is damaged; run it again") from None
    return with_decibels({name: value for name, value in values.items() if not math.isnan(value)})


def _fault(rows: Sequence[Mapping[str, str]]) -> str | None:
    """Of a run in which every picture failed."""
    coded = any(row["status"] == "ok" for row in rows)
    return None if coded else f"every picture failed, the first by: {rows[0].get('error') or 'no reason given'}"


def _kept_overrides(folder: Path) -> list[Any]:
    """Return what Hydra keeps of each run; nothing where it does not."""
    kept = folder / ".hydra" / "overrides.yaml"
    found: Any = OmegaConf.to_container(OmegaConf.load(kept)) if kept.is_file() else []
    return found if isinstance(found, list) else []


def _provenance(folder: Path) -> dict[str, str]:
    """The command, the commit, and where and when it ran; of baselines, what their codecs say of themselves."""
    kept = folder / "provenance"
    found: dict[str, str] = {}
    for name in ("command", "commit"):
        path = kept / f"{name}.txt"
        text = path.read_text(encoding="utf-8", errors="replace").strip() if path.is_file() else ""
        found |= {name: text} if text else {}
    facts = _read_json(kept / "environment.json")
    shown = ("started", "host", "cpu", "threads", "torch", "gpus", "seed")
    return found | {name: _fact(facts[name]) for name in shown if facts.get(name)}


def _fact(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _read_json(path: Path) -> dict[str, Any]:
    """Empty for a file that is not there. Raises `CodingError` for one that is damaged."""
    try:
        found = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    except (OSError, ValueError) as error:
        raise CodingError(f"{path}: cannot be read ({error}); delete it or run the test again") from None
    return found if isinstance(found, dict) else {}


def _hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)


def _natural(text: str) -> tuple[object, ...]:
    """Sort key: runs of digits by their value."""
    digits = "".join(c if c.isdigit() else " " for c in text).split()
    letters = "".join(" " if c.isdigit() else c for c in text)
    return ([int(number) for number in digits] if text[:1].isdigit() else [], letters, text)
