"""How far a folder job has come, over all its processes, with the time it will still take."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any, Protocol

import lightning as L
from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table

POLL_SECONDS = 0.5
LINE_SECONDS = 15.0


class JobState(Protocol):
    """What is known on the disk of a job that several processes share."""

    def plan(self) -> tuple[int, int]:
        """Number of input files, and their bytes; zeros while not yet known."""

    def arrivals(self) -> Sequence[Mapping[str, Any]]:
        """Outcomes of this run that were noted since the last call: `name`, `status`, `source` and numbers."""


class Tally:
    """Outcomes so far, one per name."""

    def __init__(self) -> None:
        self.rows: dict[str, Mapping[str, Any]] = {}

    def add(self, rows: Sequence[Mapping[str, Any]]) -> None:
        self.rows |= {row["name"]: row for row in rows}

    @property
    def input_bytes(self) -> int:
        return sum((row.get("source") or [0])[0] for row in self.rows.values())

    @property
    def megapixels(self) -> float:
        return sum((row.get("height") or 0) * (row.get("width") or 0) for row in self.rows.values()) / 1e6

    def count(self, status: str) -> int:
        return sum(row["status"] == status for row in self.rows.values())

    def mean(self, column: str) -> float:
        """Over the rows that have a number there; NaN when none has."""
        known = [row[column] for row in self.rows.values() if row.get(column) is not None]
        return fmean(known) if known else math.nan


class FolderProgress(L.Callback):
    """A bar in a terminal, a line now and then elsewhere, and a table at the end; on the first process only.

    It follows the job's journal from a thread, so it moves while this process is busy or waits for others.
    """

    def __init__(self, *, job: JobState) -> None:
        self.job = job
        self.console = Console(stderr=True)
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def on_predict_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        del pl_module
        if not trainer.is_global_zero:
            return
        self.job.arrivals()  # what is noted already is history
        self.tally, self.start = Tally(), time.monotonic()
        self._stop.clear()
        follow = self._draw_bar if self.console.is_terminal else self._print_lines
        self._thread = threading.Thread(target=follow, name="progress", daemon=True)
        self._thread.start()

    def on_predict_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        del trainer, pl_module
        if self._close():
            self.tally.add(self.job.arrivals())
            self.console.print(self._summary())

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        del trainer, pl_module, exception
        self._close()

    def _close(self) -> bool:
        """Stop following; False if this process never did."""
        thread, self._thread = self._thread, None
        if thread is None:
            return False
        self._stop.set()
        thread.join()
        return True

    def _draw_bar(self) -> None:
        columns = (
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("files"),
            TextColumn("{task.fields[megapixels]:.1f} MP"),
            TextColumn("{task.fields[failed]}"),
            TimeElapsedColumn(),
            TextColumn("left"),
        )
        weight = Progress(DownloadColumn(), TimeRemainingColumn(), console=self.console)
        with Progress(*columns, console=self.console) as bar:
            task = bar.add_task("", total=None, megapixels=0.0, failed="")
            while not self._stop.wait(POLL_SECONDS):
                self._update_bar(bar, task)
            self._update_bar(bar, task)
        del weight
