"""What became of one job of a sweep: `job.json` in its folder.

It is written before a job begins and again when all of it is done, so that one that was killed is known by it, and
one that is done is not done again.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from lightning_modules.folder_jobs.claims import Claims
from lightning_modules.system.atomic_file import write_atomically

RECORD_NAME = "job.json"
UNFINISHED = "not done: it has not begun, was stopped, or died; the same command does it"

CLAIMS = Path(".latentpress", "claims")
POLL_SECONDS = 1.0


class SweepJob(NamedTuple):
    """number: its place in the sweep. overrides: as typed. error: one line; None when all went well.

    config: hash of its configuration, `frozen_job.key_of`; empty in records of before there was any.
    """

    number: int
    task: str
    overrides: list[str]
    error: str | None
    config: str = ""

    def write(self, folder: Path) -> None:
        write_atomically(folder / RECORD_NAME, json.dumps(self._asdict(), indent=2).encode())


def records(sweep: Path) -> list[tuple[SweepJob, Path]]:
    """Return the records of all jobs whose folder lies in that of the sweep, by number, with their folders."""
    found = [(record, path.parent) for path in sweep.glob(f"*/{RECORD_NAME}") if (record := read(path.parent))]
    return sorted(found, key=lambda each: (each[0].number, each[1]))


def read(folder: Path) -> SweepJob | None:
    """Return the record of a job; None where none has begun."""
    path = folder / RECORD_NAME
    return SweepJob(**json.loads(path.read_text())) if path.is_file() else None


@contextmanager
def claimed(folder: Path) -> Iterator[None]:
    """Within, no other process does the job of this folder. Waits until one that does has ended, or died."""
    claims = Claims(folder / CLAIMS)
    claims.folder.mkdir(parents=True, exist_ok=True)
    while not claims.take(folder.name, None):
        time.sleep(POLL_SECONDS)
    claims.keep_alive()
    try:
        yield
    finally:
        claims.settle(folder.name)
        claims.close()
