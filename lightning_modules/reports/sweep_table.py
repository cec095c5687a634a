"""The jobs of a sweep as a table, for the terminal and as CSV: a row per job, named by what was changed for it."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from rich import box
from rich.table import Table
from rich.text import Text

from lightning_modules.records import PICTURES_IN_FILE
from lightning_modules.reports.sweep_results import Outcome
from lightning_modules.sweeps.overrides import short_key
from lightning_modules.sweeps.record import UNFINISHED

COLUMNS = ("pictures", "failed", "bpp", "psnr", "ms_ssim", "loss", "loss_percent", "seconds", "loss_lmbda", "error")
"""Of `summary.csv`, after the job's folder and what was changed, before any others that the jobs have measured.

loss_lmbda: the weight in the loss.
"""

SHOWN = {"bpp": ("bpp", ".4f"), "psnr": ("PSNR", ".3f"), "ms_ssim": ("MS-SSIM", ".5f"), "loss": ("loss", ".4f")}
"""Of the table: column -> (its title, layout of its numbers)."""

AGAINST_BOUND = {
    "bits_per_dimension": ("bits per\ndimension", ".4f"),
    "bound_per_dimension": ("ELBO", ".4f"),
    "overhead_percent": ("over\nbound, %", ".2f"),
    "initial_per_dimension": ("initial\nbits", ".4f"),
    PICTURES_IN_FILE: ("pictures\nin a file", ".0f"),
    "encode_seconds": ("s to\nencode", ".3f"),
    "decode_seconds": ("s to\ndecode", ".3f"),
}
"""The same of columns that only codecs with a bound have; shown where a job has them."""

RATE_PREFIX = "bpp_"
"""Begins the names of columns that are rates, which are not shown."""

LONGEST = 24
"""Characters of a setting that no table cuts into lines."""


class Row(NamedTuple):
    """settings: what differs between the jobs, by short name; `{}` for a sweep of one job.

    loss_percent: of the least loss that the encoder network alone reaches in the sweep, at the same lmbda on the same
    pictures; None where it is not known, or where no job refines.
    """

    outcome: Outcome
    settings: dict[str, str]
    loss_percent: float | None

    def cells(self) -> list[str]:
        """Under `COLUMNS`; empty for what is not known."""
        outcome, means = self.outcome, self.outcome.means
        numbers = (means.bpp, means.psnr, means.ms_ssim, means.loss, self.loss_percent, means.seconds)
        counts = [str(len(outcome.pictures)), str(outcome.failed)]
        return [*counts, *map(_number, numbers), outcome.lmbda, outcome.job.error or ""]


def rows(outcomes: Sequence[Outcome]) -> list[Row]:
    """Return the rows of the table, in the order given."""
    keys = list(dict.fromkeys(key for outcome in outcomes for key in outcome.overrides))
    swept = [key for key in keys if len({outcome.overrides.get(key) for outcome in outcomes}) > 1]
    names = {key: short_key(key, swept) for key in swept}
    refines = any(outcome.refined for outcome in outcomes)
    return [
        Row(
            outcome,
            {name: outcome.overrides.get(key, "") for key, name in names.items()},
            _percent(outcome, outcomes) if refines else None,
        )
        for outcome in outcomes
    ]


def summary_csv(table: Sequence[Row]) -> str:
    """Return a line per job, as CSV."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    further = further_columns(table)
    writer.writerow(["job", *_setting_names(table), *COLUMNS, *further])
    for row in table:
        more = [_number(row.outcome.means.further.get(name)) for name in further]
        writer.writerow([row.outcome.folder.name, *row.settings.values(), *row.cells(), *more])
    return text.getvalue()


def further_columns(table: Sequence[Row]) -> list[str]:
    """Return what some job has measured besides the usual."""
    return list(dict.fromkeys(name for row in table for name in row.outcome.means.further))


def distance_columns(table: Sequence[Row]) -> list[str]:
    """Return the columns that say how far decoded pictures are from their originals, by the names of `metrics=`."""
    return [name for name in further_columns(table) if not name.startswith(RATE_PREFIX) and name not in AGAINST_BOUND]


def summary_table(table: Sequence[Row]) -> Table:
    """Return the table to print."""
    relative = any(row.loss_percent is not None for row in table)
    shown = Table(box=box.SIMPLE_HEAD)
    values = zip(*(_settings_or_job(row) for row in table), strict=True)
    for name, column in zip(_setting_names(table) or ["job"], values, strict=True):
        longest = max(len(name), *(len(value) for value in column))
        shown.add_column(name, overflow="fold", min_width=min(longest, LONGEST))
    titles = [title for title, _ in SHOWN.values()]
    further = {name: (name, ".4f") for name in distance_columns(table)}
    further |= {name: shown_as for name, shown_as in AGAINST_BOUND.items() if name in further_columns(table)}
    relatives = ["% of\namortised"] if relative else []
    for title in (
        "pictures",
        "failed",
        *titles,
        *relatives,
        "s per\npicture",
        *(title for title, _ in further.values()),
    ):
        shown.add_column(title, justify="right", no_wrap=True)
    for row in table:
        cells: list[Text | str] = [*_settings_or_job(row), *_shown_cells(row, relative), *_further_cells(row, further)]
        shown.add_row(*cells, style="red" if row.outcome.job.error else "")
    return shown


def job_name(row: Row) -> str:
    """`inference=sga, lr=0.01` of what differs; its folder's name where nothing does."""
    return ", ".join(f"{key}={value}" for key, value in row.settings.items()) or row.outcome.folder.name


def _setting_names(table: Sequence[Row]) -> list[str]:
    return list(table[0].settings) if table else []


def _settings_or_job(row: Row) -> list[Text]:
    return [Text(value) for value in row.settings.values()] or [Text(row.outcome.folder.name)]


def _shown_cells(row: Row, relative: bool) -> list[str]:
    outcome, means = row.outcome, row.outcome.means
    if outcome.job.error is not None:
        word = "not done" if outcome.job.error == UNFINISHED else "failed"
        return [word, *["-"] * (len(SHOWN) + 2 + relative)]
    values = [_layout(getattr(means, column), layout) for column, (_, layout) in SHOWN.items()]
    percent = [_layout(row.loss_percent, ".2f")] if relative else []
    return [str(len(outcome.pictures)), str(outcome.failed), *values, *percent, _layout(means.seconds, ".2f")]


def _further_cells(row: Row, columns: Mapping[str, tuple[str, str]]) -> list[str]:
    found = row.outcome.means.further
    return [_layout(found.get(column), layout) for column, (_, layout) in columns.items()]


def notes(table: Sequence[Row]) -> str:
    """Return what to know of the numbers."""
    lines = ["means over pictures; loss = lmbda * mse + bpp of decoded 8-bit pixels and whole files"]
    if any("bits_per_dimension" in row.outcome.means.further for row in table):
        lines.append(
            "bits per dimension: bpp / 3, of files, of the evidence bound, and of bits that had to be there first"
        )
    if len({row.outcome.lmbda for row in table if row.outcome.lmbda}) > 1:
        lines.append("lmbda differs between jobs: losses compare at equal lmbda only")
    return "\n".join(lines)


def _percent(outcome: Outcome, all_outcomes: Sequence[Outcome]) -> float | None:
    """Both losses with the bits of the coding tables: headers of files are the same for all."""
    peers = [peer for peer in all_outcomes if (peer.lmbda, peer.pictures) == (outcome.lmbda, outcome.pictures)]
    losses = [loss for peer in peers if (loss := peer.means.amortized_loss) is not None]
    loss = outcome.means.estimated_loss
    return 100.0 * loss / min(losses) if loss is not None and losses else None


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.8g}"


def _layout(value: float | None, layout: str) -> str:
    return "-" if value is None else format(value, layout)
