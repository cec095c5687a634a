"""What a model's tests have measured, one row for each test set, out of their run folders."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

from omegaconf import OmegaConf

from lightning_modules.errors import CodingError
from lightning_modules.reports.run_folder import RESULTS_NAME, numbers, read_run

COLUMNS = ("bpp", "bpp_estimated", "psnr", "ms_ssim")
"""First in a row; what else the table has follows in its order."""

LEFT_OUT = ("height", "width", "bytes", "lmbda", "pictures_in_file")


class MeasuredRow(NamedTuple):
    """means: per picture, then averaged; infinite where nothing is lost. data: what was tested, as configured.

    failed: pictures without numbers. source: the run folder. command: what measured it.
    """

    data: str
    pictures: int
    failed: int
    means: dict[str, float]
    command: str
    source: str


def own_row(folder: Path) -> list[MeasuredRow]:
    """Return what the test that ended the training in this folder measured.

    None without one, or if every picture failed.
    """
    if not (folder / RESULTS_NAME).is_file() or read_run(folder).error:
        return []
    return [read_row(folder)]


def read_rows(folders: Sequence[Path], ckpt: str) -> list[MeasuredRow]:
    """Return what tests of the model that `ckpt` names measured.

    Raises `CodingError` for a folder in which another one was tested.
    """
    for folder in folders:
        tested = _config(folder).get("ckpt")
        if tested is not None and not _same(str(tested), ckpt):
            raise CodingError(f"{folder}: has tested ckpt={tested}, not {ckpt}; give its own tests with input=")
    return [read_row(folder) for folder in folders]


def read_row(folder: Path) -> MeasuredRow:
    """Return what the test in a run folder measured. Raises `CodingError` where that is nothing."""
    run = read_run(folder)
    if run.error:
        raise CodingError(f"{folder}: {run.error}; give another folder with input=, or none")
    measured = [numbers(row, folder) for row in run.rows if row["status"] == "ok"]
    names = dict.fromkeys([*COLUMNS, *(name for row in measured for name in row)])
    columns = [name for name in names if name not in LEFT_OUT and all(name in row for row in measured)]
    means = {name: fmean(row[name] for row in measured) for name in columns}
    return MeasuredRow(
        _tested(folder), len(measured), len(run.rows) - len(measured), means, run.provenance.get("command", ""),
        str(folder),
    )  # fmt: skip


def plain(means: dict[str, float]) -> dict[str, float | None]:
    """Return a value for JSON, which has no infinity: None for what is lossless."""
    return {name: value if math.isfinite(value) else None for name, value in means.items()}


def _tested(folder: Path) -> str:
    settings = _config(folder).get("datamodule") or {}
    roots = settings.get("test") or settings.get("val") or settings.get("_target_", "").rpartition(".")[2]
    return ", ".join(map(str, roots)) if isinstance(roots, list) else str(roots or "not told")


def _config(folder: Path) -> dict[str, Any]:
    """Return the settings that a run has kept; empty where it has not."""
    path = folder / "provenance" / "config.yaml"
    found: Any = OmegaConf.to_container(OmegaConf.load(path)) if path.is_file() else {}
    return found if isinstance(found, dict) else {}


def _same(one: str, other: str) -> bool:
    return one == other or Path(one).expanduser().resolve() == Path(other).expanduser().resolve()
