"""The folder of a sweep: by which command it was made, and what is left to do in it.

A sweep that has not ended well goes on when the same command is given again: `sweep.json` tells which one that is.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from lightning_modules.errors import CodingError
from lightning_modules.sweeps.process import LOG_NAME
from lightning_modules.sweeps.record import records
from lightning_modules.system.atomic_file import write_atomically
from lightning_modules.system.worker import Worker, is_alive, this_worker

SWEEP_NAME = "sweep.json"
HOW_NOT_WHAT = ("hydra/launcher", "hydra.launcher", "hydra.sweep.dir")
"""Begin the words of a command that say how and where its jobs run."""

MULTIRUN = {"-m", "--multirun"}


class SweepRecord(NamedTuple):
    """words: of the command line. folder: in which it was given. worker: the process, by its label."""

    words: list[str]
    folder: str
    worker: str
    finished: bool = False

    @classmethod
    def of(cls, words: Sequence[str]) -> SweepRecord:
        """Return the record of a sweep that this process begins."""
        return cls([word for word in words if word not in MULTIRUN], str(Path.cwd()), this_worker().label)

    def write(self, sweep: Path) -> None:
        sweep.mkdir(parents=True, exist_ok=True)
        write_atomically(sweep / SWEEP_NAME, json.dumps(self._asdict(), indent=2).encode())

    def is_same(self, other: SweepRecord) -> bool:
        """Return whether both ask for the same jobs."""
        return (_what(self.words), self.folder) == (_what(other.words), other.folder)

    def is_alive(self) -> bool | None:
        """Return whether its process runs; None where that cannot be seen, on another machine."""
        return is_alive(Worker.from_label(self.worker))


def read(sweep: Path) -> SweepRecord | None:
    """Return what is known of a sweep; None for a folder that is not one's."""
    path = sweep / SWEEP_NAME
    return SweepRecord(**json.loads(path.read_text())) if path.is_file() else None


def begin(sweep: Path, words: Sequence[str], is_named: bool) -> Path:
    """Note who is at a sweep by the command `words`; returns its folder.

    Unless the command names `sweep`, it goes on with the newest sweep beside it of the same command that is not done.
    Raises `CodingError` while another process of this machine is at it.
    """
    record = SweepRecord.of(words)
    earlier = None if is_named else unfinished(sweep.parent, record)
    if earlier is not None:
        line = f"going on with {earlier}, which is not done; hydra.sweep.dir=FOLDER begins another"
        print(line, file=sys.stderr, flush=True)
    found, folder = read(earlier or sweep), earlier or sweep
    if found is not None and found.worker != record.worker and found.is_alive():
        raise CodingError(f"{folder}: another process is at this sweep; wait for it, or give another hydra.sweep.dir=")
    record.write(folder)
    return folder


def unfinished(parent: Path, wanted: SweepRecord) -> Path | None:
    """Return the newest sweep in `parent` of the same command that did not end well, and that nobody is at."""
    found = [(path.parent, record) for path in parent.glob(f"*/{SWEEP_NAME}") if (record := read(path.parent))]
    open_ones = [
        sweep
        for sweep, record in found
        if not record.finished and record.is_same(wanted) and record.is_alive() is False
    ]
    return max(open_ones, default=None, key=lambda sweep: (sweep / SWEEP_NAME).stat().st_mtime)


class Begun(NamedTuple):
    """words: of the command that began `sweep`, and further ones. folder: where it was given."""

    sweep: Path
    folder: str
    words: list[str]


def begun_by(words: Sequence[str]) -> Begun | None:
    """Return what `resume=FOLDER` among `words` stands for; None if that is no sweep's folder, but a training's."""
    for word in words:
        key, _, value = word.partition("=")
        sweep = Path(value.strip("'\"")).resolve()
        record = read(sweep) if key == "resume" else None
        if record is not None:
            further = [other for other in words if other != word]
            kept = [each for each in record.words if not each.startswith("hydra.sweep.dir=")]
            return Begun(sweep, record.folder, [*kept, *further])
    return None


def close(sweep: Path, is_whole: bool) -> list[str]:
    """Note how it has ended; a line for each of its jobs that has failed, with its log.

    is_whole: whether every job was given its chance. A sweep that never came to its first job leaves nothing behind.
    """
    record, jobs = read(sweep), records(sweep)
    if record is not None and not jobs:
        (sweep / SWEEP_NAME).unlink()
        if not any(sweep.iterdir()):
            sweep.rmdir()
    failed = [(job, folder) for job, folder in jobs if job.error is not None]
    if record is not None and jobs and is_whole and not failed:
        record._replace(finished=True).write(sweep)
    return [f"failed: {folder.name}: {job.error}; log: {_log(folder)}" for job, folder in failed]


def _log(folder: Path) -> Path | str:
    log = folder / LOG_NAME
    return log if log.exists() else f"none, it never began in {folder}"


def _what(words: Sequence[str]) -> list[str]:
    return sorted(word for word in words if not word.startswith(HOW_NOT_WHAT))
