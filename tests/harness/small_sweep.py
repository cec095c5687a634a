"""Folders of sweeps as jobs leave them, with known numbers."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from callbacks.results import results_table
from lightning_modules.sweeps.record import SweepJob

LMBDA = 0.01
MSE_AT_30_DB = 255.0**2 / 10.0**3


def picture(name: str, bpp: float = 0.5, psnr: float = 30.0, lmbda: float = LMBDA) -> dict[str, Any]:
    """A row of `results.csv`. The file's headers are 0.01 bpp; it takes 3 s to make and 1 s to decode."""
    mse = 255.0**2 / 10.0 ** (psnr / 10.0)
    rates = {"bpp": bpp, "bpp_estimated": bpp - 0.01, "psnr": psnr, "lmbda": str(lmbda), "loss": lmbda * mse + bpp}
    return {"name": name, "status": "ok", **rates, "encode_seconds": 3.0, "decode_seconds": 1.0}


def write_job(
    sweep: Path,
    number: int,
    overrides: Sequence[str],
    pictures: Sequence[dict[str, Any]] = (),
    *,
    task: str = "test",
    error: str | None = None,
) -> Path:
    """The folder of a job that has ended."""
    folder = sweep / f"{number}_job"
    folder.mkdir(parents=True)
    SweepJob(number, task, list(overrides), error).write(folder)
    (folder / "results.csv").write_text(results_table(list(enumerate(pictures))))
    return folder


def write_trace(job: Path, name: str, bpp: float, psnr: float) -> None:
    """Of a refinement that began at this rate and quality, and did better."""
    path = job / "traces" / f"{name}.csv"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([["step", "bpp", "psnr"], [0, bpp, psnr], [50, bpp - 0.1, psnr + 1.0]])
