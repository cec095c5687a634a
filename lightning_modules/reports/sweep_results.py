"""One job of a sweep as its folder tells of it, at once and a year later: what was changed, what came out."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from types import MappingProxyType
from typing import Any, NamedTuple

from lightning_modules.records import REPORT_COLUMNS
from lightning_modules.sweeps.overrides import parse
from lightning_modules.sweeps.record import SweepJob, records

USUAL_COLUMNS = {*REPORT_COLUMNS, "lmbda", "loss"}
BOUND = "bpp_bound"
"""Column of codecs that know what their files cannot be shorter than, on average."""
CHANNELS = 3

Picture = dict[str, str]
"""A row of `results.csv`."""


class Means(NamedTuple):
    """Of the pictures that did not fail; None for what was not measured.

    loss: lmbda * mse of 8-bit pixels (0-255 scale) + bits per pixel of the file. seconds: to make a file and to decode
    it. estimated_loss: with the bits of the coding tables instead of the file's; amortized_loss: the same of what the
    encoder network says, before any refinement. further: other columns of `results.csv` by name, standard errors apart.
    """

    bpp: float | None = None
    psnr: float | None = None
    ms_ssim: float | None = None
    loss: float | None = None
    seconds: float | None = None
    estimated_loss: float | None = None
    amortized_loss: float | None = None
    further: Mapping[str, float] = MappingProxyType({})

    def named(self, name: str) -> float | None:
        """Return one mean, further ones included; None for what was not measured."""
        value = self._asdict().get(name, self.further.get(name))
        return value if isinstance(value, float) else None


class Outcome(NamedTuple):
    """pictures: names of those that were measured. failed: how many were not. lmbda: weight of the loss, as written.

    refined: whether there are traces.
    """

    job: SweepJob
    folder: Path
    overrides: dict[str, str]
    pictures: tuple[str, ...] = ()
    failed: int = 0
    lmbda: str = ""
    refined: bool = False
    means: Means = Means()


def outcomes(sweep: Path) -> list[Outcome]:
    """Return the results of all jobs whose folder lies in that of the sweep, by number."""
    return [outcome(job, folder) for job, folder in records(sweep)]


def outcome(job: SweepJob, folder: Path) -> Outcome:
    """Return what `folder` holds of a job: nothing is measured of one that failed."""
    overrides = dict(parse(text) for text in job.overrides)
    path = folder / "results.csv"
    if job.error is not None or not path.is_file():
        return Outcome(job, folder, overrides)
    with path.open(newline="", encoding="utf-8", errors="surrogateescape") as file:
        rows = list(csv.DictReader(file))
    measured = [row for row in rows if row["status"] == "ok"]
    return Outcome(
        job,
        folder,
        overrides,
        tuple(row["name"] for row in measured),
        len(rows) - len(measured),
        measured[0].get("lmbda", "") if measured else "",
        (folder / "traces").is_dir(),
        _means(measured, folder / "traces"),
    )


def _means(pictures: Sequence[Picture], traces: Path) -> Means:
    estimated = [_estimated_loss(picture) for picture in pictures]
    amortized = [_amortized_loss(picture, traces) for picture in pictures] if traces.is_dir() else estimated
    return Means(
        bpp=_mean(_number(picture, "bpp") for picture in pictures),
        psnr=_mean(_number(picture, "psnr") for picture in pictures),
        ms_ssim=_mean(_number(picture, "ms_ssim") for picture in pictures),
        loss=_mean(_number(picture, "loss") for picture in pictures),
        seconds=_mean(_seconds(picture) for picture in pictures),
        estimated_loss=_mean_of_all(estimated),
        amortized_loss=_mean_of_all(amortized),
        further=_further_means(pictures),
    )


def _further_means(pictures: Sequence[Picture]) -> dict[str, float]:
    means = {name: _mean(_number(picture, name) for picture in pictures) for name in _further(pictures)}
    further = {name: mean for name, mean in means.items() if mean is not None}
    return further | (against_bound(pictures, further) if BOUND in further else {})


def against_bound(pictures: Sequence[Picture], further: Mapping[str, float]) -> dict[str, float]:
    """Return what files take over the bound that their codec tells of, and in which time.

    Of pictures that come back exactly, also bits per dimension, a channel of a pixel: of files, of the bound, and of
    bits that had to be there first.
    """
    usual = ("bpp", "psnr", "encode_seconds", "decode_seconds")
    means = {name: _mean(_number(picture, name) for picture in pictures) or 0.0 for name in usual}
    found = {"overhead_percent": 100.0 * (means["bpp"] / further[BOUND] - 1.0)}
    if math.isinf(means["psnr"]):
        bits = {"bits": means["bpp"], "bound": further[BOUND], "initial": further.get("bpp_initial", 0.0)}
        found = {f"{name}_per_dimension": bpp / CHANNELS for name, bpp in bits.items()} | found
    return found | {name: means[name] for name in ("encode_seconds", "decode_seconds")}


def _further(pictures: Sequence[Picture]) -> list[str]:
    """Columns beyond the usual ones; those of standard errors mean nothing when averaged."""
    columns = dict.fromkeys(name for picture in pictures for name in picture)
    return [name for name in columns if name not in USUAL_COLUMNS and not name.endswith("_error")]


def _estimated_loss(picture: Picture) -> float | None:
    loss, bpp, estimated = (_number(picture, column) for column in ("loss", "bpp", "bpp_estimated"))
    return None if loss is None or bpp is None or estimated is None else loss - bpp + estimated


def _amortized_loss(picture: Picture, traces: Path) -> float | None:
    """From the first record of a picture's trace, which is of the latents as the encoder network gives them."""
    path, lmbda = traces / f"{picture['name']}.csv", _number(picture, "lmbda")
    if lmbda is None or not path.is_file():
        return None
    with path.open(newline="", encoding="utf-8") as file:
        first: dict[str, Any] = next(csv.DictReader(file))
    return lmbda * 255.0**2 / 10.0 ** (float(first["psnr"]) / 10.0) + float(first["bpp"])


def _seconds(picture: Picture) -> float | None:
    encode, decode = _number(picture, "encode_seconds"), _number(picture, "decode_seconds")
    return None if encode is None or decode is None else encode + decode


def _number(row: Picture, column: str) -> float | None:
    text = row.get(column)
    return float(text) if text else None


def _mean(values: Iterable[float | None]) -> float | None:
    """Of those that are there; None where none is."""
    numbers = [value for value in values if value is not None]
    return fmean(numbers) if numbers else None


def _mean_of_all(values: Sequence[float | None]) -> float | None:
    """None where one is missing."""
    return None if None in values else _mean(values)
