"""How far a folder job has come, over all its processes, and how long it will still take."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any, Protocol

import lightning as L
from lightning.pytorch.callbacks import ProgressBar
from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
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
        """Return the number of input files, and their bytes; zeros while not yet known."""

    def arrivals(self) -> Sequence[Mapping[str, Any]]:
        """Return outcomes of this run noted since the last call: `name`, `status`, `source` and numbers."""


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


class FolderProgress(ProgressBar):
    """A bar in a terminal, a line now and then elsewhere, a table at the end; in place of Lightning's bar.

    It follows the job's journal from a thread, so it moves while this process is busy or waits for others.
    Progress is measured in bytes of input, which foretells the time better than the number of files. Of files that
    are done all at once it also shows what the module calls `progress_message`.
    """

    def __init__(self, *, job: JobState, console: Console | None = None) -> None:
        super().__init__()
        self.job = job
        self.console = console or Console(stderr=True)
        self.tally = Tally()
        self._enabled = True
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def disable(self) -> None:
        """Lightning calls it on all processes but the first."""
        self._enabled = False

    def enable(self) -> None:
        self._enabled = True

    def on_predict_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        del trainer
        if not self._enabled:
            return
        self.module = pl_module
        self.tally, self.start = Tally(), time.monotonic()
        self.tally.add(self.job.arrivals())  # from here on, whatever arrives belongs to this run
        self._stop.clear()
        follow = self._draw_bar if self.console.is_terminal else self._print_lines
        self._thread = threading.Thread(target=follow, name="folder progress", daemon=True)
        self._thread.start()

    def on_predict_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Show the table of all processes, once those that this one has started have no files left."""
        del pl_module
        if self._enabled:
            for process in getattr(trainer.strategy.launcher, "procs", ()):
                process.wait()
        if self._close():
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
            TextColumn("{task.fields[files]}"),
            BarColumn(),
            DownloadColumn(),
            TextColumn("{task.fields[megapixels]:.1f} MP"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
        )
        with Progress(*columns, console=self.console, speed_estimate_period=600.0) as bar:
            task = bar.add_task("", total=None, files="", megapixels=0.0)
            is_last = False
            while not is_last:
                is_last = self._stop.wait(POLL_SECONDS)
                self.tally.add(self.job.arrivals())
                bar.update(
                    task,
                    total=self.job.plan()[1] or None,
                    completed=self.tally.input_bytes,
                    files=self._files(),
                    megapixels=self.tally.megapixels,
                )

    def _print_lines(self) -> None:
        is_last = False
        while not is_last:
            is_last = self._stop.wait(LINE_SECONDS)
            self.tally.add(self.job.arrivals())
            elapsed = time.monotonic() - self.start
            self.console.print(f"{self._files()}, {self.tally.megapixels:.1f} MP, {self._time(elapsed)}")

    def _files(self) -> str:
        failed = self.tally.count("failed")
        words = f"{len(self.tally.rows)}/{self.job.plan()[0]} files" + (f" ({failed} failed)" if failed else "")
        progress_message = getattr(self.module, "progress_message", "")
        return f"{words}, {progress_message}" if progress_message else words

    def _time(self, elapsed: float) -> str:
        done, total = self.tally.input_bytes, self.job.plan()[1]
        if not 0 < done < total:
            return f"{elapsed:.0f} s"
        return f"{elapsed:.0f} s, about {elapsed * (total - done) / done:.0f} s left"

    def _summary(self) -> Table:
        tally, seconds = self.tally, time.monotonic() - self.start
        cells = {
            "files": str(len(tally.rows)),
            "ok": str(tally.count("ok")),
            "skipped": str(tally.count("skipped")),
            "failed": str(tally.count("failed")),
            "megapixels": f"{tally.megapixels:.1f}",
            "mean bpp": _number(tally.mean("bpp"), 4),
            "mean PSNR": _number(tally.mean("psnr"), 2),
            "seconds": f"{seconds:.1f}",
        }
        table = Table(*cells)
        table.add_row(*cells.values())
        return table


def _number(value: float, decimals: int) -> str:
    return "-" if math.isnan(value) else f"{value:.{decimals}f}"
