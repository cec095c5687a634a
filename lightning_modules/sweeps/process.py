"""One job of a sweep in a process of its own: started, followed, stopped, and judged by what it has left.

It heads a process group, so that whatever it started (ranks, loaders) ends with it, however it ends. It writes to
its log itself: nothing breaks when the process that started it is killed.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from lightning_modules.sweeps.record import UNFINISHED, read

LOG_NAME = "job.log"
JOB_FOLDER = "LATENTPRESS_JOB_FOLDER"
"""Environment variable by which a process knows the job of a sweep that it is to do; its ranks inherit it."""

CLUSTER = ("SLURM_NTASKS", "SLURM_NTASKS_PER_NODE")
"""Of a cluster's job, by which Lightning would take for granted that the cluster has started all ranks."""

POLL_SECONDS = 1.0
PATIENCE = 60.0
"""Seconds that a job whose starter has died is given to end by itself."""


class JobProcess:
    """The job whose frozen configuration lies in `folder`. command: what does it, once it knows that folder."""

    def __init__(self, command: Sequence[str], folder: Path) -> None:
        self.folder = folder
        self.log = folder / LOG_NAME
        self._echoed = self.log.stat().st_size if self.log.exists() else 0
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                list(command),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=_environment(os.environ, folder),
                start_new_session=True,
            )

    def echo(self) -> None:
        """Pass on what it has written since the last time."""
        with self.log.open("rb") as log:
            log.seek(self._echoed)
            text = log.read()
        self._echoed += len(text)
        sys.stdout.write(text.decode(errors="replace"))
        sys.stdout.flush()

    def has_ended(self) -> bool:
        """Return whether it has ended; then nothing of it is left running."""
        if self.process.poll() is None:
            return False
        self.send(signal.SIGKILL)
        return True

    def send(self, signum: int) -> None:
        """Send a signal to all its processes."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signum)

    def settle(self) -> str | None:
        """Say in one line what became of it; None if all went well. Write the record of one that could not say."""
        record = read(self.folder)
        if record is not None and record.error != UNFINISHED:
            return record.error
        line = fate(self.process.returncode)
        if record is not None:
            record._replace(error=line).write(self.folder)
        return line


def complete(command: Sequence[str], folder: Path) -> None:
    """Do one job to its end, well or not: its record says it. What interrupts this process ends that one as well."""
    job = JobProcess(command, folder)
    try:
        while not job.has_ended():
            time.sleep(POLL_SECONDS)
    except BaseException:
        job.send(signal.SIGTERM)
        raise
    job.settle()


def fate(exit_code: int) -> str:
    """Say in one line how a process ended before its job was done; negative numbers are signals, as of `subprocess`."""
    killed = {-signal.SIGKILL: "killed by SIGKILL, as by a system short of memory"}
    if exit_code < 0:
        return killed.get(exit_code, f"killed by {signal.Signals(-exit_code).name}")
    if exit_code in (128 + signal.SIGINT, 128 + signal.SIGTERM):
        return f"stopped by {signal.Signals(exit_code - 128).name}"
    return f"ended with exit code {exit_code} before it was done"


def end_with_parent() -> None:
    """Let no job outlive what started it, which would begin it a second time when it is started again.

    Call it where signals already are as they are to be for threads.
    """
    threading.Thread(target=_watch, args=(os.getppid(),), name="parent", daemon=True).start()


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(POLL_SECONDS)
    os.killpg(os.getpgrp(), signal.SIGTERM)
    time.sleep(PATIENCE)
    os.killpg(os.getpgrp(), signal.SIGKILL)


def _environment(found: Mapping[str, str], folder: Path) -> dict[str, str]:
    kept = {key: value for key, value in found.items() if key not in CLUSTER}
    return {**kept, JOB_FOLDER: str(folder), "PYTHONUNBUFFERED": "1"}
