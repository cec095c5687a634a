"""What became of each item of a folder job: one JSON line per event, one file per process, never rewritten.

Processes share nothing but the folder: each appends to its own file and reads all of them.
"""

from __future__ import annotations

import errno
import json
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning_modules.system.worker import Worker, is_alive, this_worker

Row = dict[str, Any]
"""`name`, `status` (begun, ok, skipped, failed), `time` (seconds since 1970), and what its writer knows."""


OUTCOMES = ("ok", "skipped", "failed")


class Journal:
    """All rows below `folder`, as far as `refresh` has read them.

    latest: the newest outcome of each name, of any run.
    begun: the newest output of each name that was about to be put in its place, of any run.
    made: which name each output was made from, or was about to be, in any run.
    closings: how often a process has said that it has ended.
    settled: names whose newest row belongs to the run in progress, so that nobody need look at them again.

    A run ends with `close_run`. What was written before this object's first `refresh` belongs to the run in
    progress if that run was not closed and another process, still alive here, wrote it: it started sooner.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.latest: dict[str, Row] = {}
        self.begun: dict[str, Row] = {}
        self.made: dict[str, str] = {}
        self.closings = 0
        self.settled: set[str] = set()
        self._offsets: dict[str, int] = {}
        self._complete: set[str] = set()
        self._has_history = False

    def append(self, row: Mapping[str, Any]) -> None:
        """Raises `OSError`. A half-written line (process killed, disk full) spoils only itself."""
        line = f"\n{json.dumps({**row, 'time': time.time()})}\n".encode()
        path = self.folder / f"{this_worker().label}.jsonl"
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
        try:
            if os.write(descriptor, line) < len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        finally:
            os.close(descriptor)

    def close_run(self) -> None:
        """Close the run: all that was written so far is history to whoever reads it for the first time."""
        self.append({"run": "closed"})

    def refresh(self) -> list[Row]:
        """Read what was appended since; the outcomes of the run in progress among it, oldest first."""
        arrived = [(row, writer) for writer in self._writers() for row in self._read_new(writer)]
        arrived.sort(key=lambda item: float(item[0]["time"]))
        closed = max((float(row["time"]) for row, _ in arrived if "name" not in row), default=0.0)
        self.closings += sum("name" not in row for row, _ in arrived)
        outcomes = []
        for row, writer in arrived:
            if "output" in row:
                self.made[row["output"]] = row["name"]
            if row.get("status") == "begun":
                self.begun[row["name"]] = row
            if row.get("status") not in OUTCOMES:
                continue
            in_progress = self._has_history or (row["time"] > closed and _is_living_peer(writer))
            self._adopt(row, in_progress)
            if in_progress:
                outcomes.append(row)
        self._has_history = True
        return outcomes

    def newest(self, name: str) -> Row | None:
        """Return the last thing noted of a name: its outcome, or an output begun since, there or not."""
        rows = [row for row in (self.latest.get(name), self.begun.get(name)) if row is not None]
        return max(rows, key=lambda row: float(row["time"]), default=None)

    def _adopt(self, row: Row, in_progress: bool) -> None:
        name = row["name"]
        if row["time"] < self.latest.get(name, row)["time"]:
            return
        self.latest[name] = row
        if in_progress:
            self.settled.add(name)
        else:
            self.settled.discard(name)

    def _writers(self) -> list[str]:
        return sorted({path.name for path in self.folder.glob("*.jsonl")} - self._complete)

    def _read_new(self, writer: str) -> list[Row]:
        """Opens the file every time: only that makes a network file system look for what others wrote."""
        is_complete = _is_dead(writer)
        with (self.folder / writer).open("rb") as file:
            file.seek(self._offsets.get(writer, 0))
            data = file.read()
        whole_lines = data[: data.rfind(b"\n") + 1]
        self._offsets[writer] = self._offsets.get(writer, 0) + len(whole_lines)
        if is_complete:
            self._complete.add(writer)
        return [row for line in whole_lines.splitlines() if (row := _parse(line)) is not None]


def _parse(line: bytes) -> Row | None:
    """None for what is no row: blank lines, and lines cut short."""
    try:
        row = json.loads(line)
    except ValueError:
        return None
    is_row = isinstance(row, dict) and isinstance(row.get("time"), float)
    named = is_row and (row.get("run") == "closed" or isinstance(row.get("name"), str))
    return row if named else None


def _worker_of(writer: str) -> Worker | None:
    try:
        return Worker.from_label(writer.removesuffix(".jsonl"))
    except ValueError:
        return None


def _is_dead(writer: str) -> bool:
    """Return whether nothing can be appended to a journal file any more."""
    worker = _worker_of(writer)
    return worker is not None and is_alive(worker) is False


def _is_living_peer(writer: str) -> bool:
    """Return whether a journal file belongs to another process that runs on this machine."""
    worker = _worker_of(writer)
    return worker is not None and worker != this_worker() and is_alive(worker) is True
