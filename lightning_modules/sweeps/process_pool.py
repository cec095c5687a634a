"""The jobs of a sweep, each in a process of its own, so many at once: one that dies takes no other along.

folders --JobProcess--> job.log, job.json    the next begins when one has ended    --> a line of progress each
"""

from __future__ import annotations

import signal
import sys
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import fmean
from types import FrameType

from lightning_modules.sweeps.process import JobProcess

POLL_SECONDS = 0.1


class JobCrew:
    """command: of every process. at_once: how many. With one at once, what it prints is also printed here."""

    def __init__(self, command: Sequence[str], at_once: int = 1) -> None:
        self.command = command
        self.at_once = at_once
        self._running: list[tuple[JobProcess, float]] = []
        self._seconds: list[float] = []
        self._failed = 0

    def run(self, folders: Sequence[Path]) -> None:
        """Returns when each job has ended, well or not: their records say it.

        SIGINT (`KeyboardInterrupt`) and SIGTERM (`SystemExit`) are passed on to all that run, and no other begins; once
        more ends them at once.
        """
        waiting = deque(folders)
        with _terminable():
            try:
                while waiting or self._running:
                    while waiting and len(self._running) < self.at_once:
                        self._begin(waiting.popleft(), len(folders))
                    for job, start in list(self._running):
                        self._follow(job, start, len(folders))
                    time.sleep(POLL_SECONDS)
            except BaseException as stop:
                self._stop(signal.SIGTERM if isinstance(stop, SystemExit) else signal.SIGINT)
                raise

    def _begin(self, folder: Path, total: int) -> None:
        number = len(self._seconds) + len(self._running) + 1
        _say(f"job {number} of {total}: {folder.name}")
        self._running.append((JobProcess(self.command, folder), time.monotonic()))

    def _follow(self, job: JobProcess, start: float, total: int) -> None:
        has_ended = job.has_ended()
        if self.at_once == 1:
            job.echo()
        if not has_ended:
            return
        self._running.remove((job, start))
        self._seconds.append(time.monotonic() - start)
        error = job.settle()
        if error is not None:
            self._failed += 1
            _say(f"{job.folder.name} has failed: {error}")
        _say(progress(self._seconds, self._failed, total, self.at_once))

    def _stop(self, signum: int) -> None:
        running = [job for job, _ in self._running]
        if running:
            _say("waiting for jobs to stop; once more ends them at once")
        try:
            for job in running:
                job.send(signum)
            while not all([job.has_ended() for job in running]):
                time.sleep(POLL_SECONDS)
            _say(f"stopped by {signal.Signals(signum).name}; the same command goes on")
        except BaseException:
            for job in running:
                job.send(signal.SIGKILL)
            raise


def progress(seconds: Sequence[float], failed: int, total: int, at_once: int) -> str:
    """Say how many of `total` jobs are done, and how long the others will take if they are like those.

    seconds: of each that has ended, failed ones included.
    """
    ended = len(seconds)
    words = f"{ended - failed} of {total} jobs done" + (f", {failed} failed" if failed else "")
    if ended == total:
        return words
    return f"{words}, about {duration(fmean(seconds) * (total - ended) / at_once)} left"


def duration(seconds: float) -> str:
    """Return a time in the unit that makes it a number of two digits or so."""
    for unit, length in (("d", 86400.0), ("h", 3600.0), ("min", 60.0)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"


@contextmanager
def _terminable() -> Iterator[None]:
    """Within, SIGTERM raises, as SIGINT does. Only the main thread may say so; others are not asked."""

    def end(signum: int, frame: FrameType | None) -> None:
        del frame
        raise SystemExit(128 + signum)

    try:
        found = signal.signal(signal.SIGTERM, end)
    except ValueError:
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, found)


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
