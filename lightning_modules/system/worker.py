"""Which process did a piece of work, and whether it still lives.

A process number alone is reused by the system, so a worker is also its start time; and a number means nothing
on another machine, in another container or after a reboot, so a worker is also the machine it ran on.
"""

from __future__ import annotations

import functools
import hashlib
import os
import re
import socket
from pathlib import Path
from typing import NamedTuple

import psutil


class Worker(NamedTuple):
    """A process, told from every other one of all machines that share a folder. Fields hold no dots."""

    machine: str
    pid: int
    start: str

    @property
    def label(self) -> str:
        """`machine.pid.start`, safe as a part of a file name; `from_label` is its inverse."""
        return f"{self.machine}.{self.pid}.{self.start}"

    @classmethod
    def from_label(cls, label: str) -> Worker:
        """Raises `ValueError` when `label` is not one."""
        machine, pid, start = label.split(".")
        return cls(machine, int(pid), start)


def this_worker() -> Worker:
    """Return the calling process; a forked child is another worker than its parent."""
    return _worker(os.getpid())


@functools.lru_cache(maxsize=1)
def _worker(pid: int) -> Worker:
    return Worker(_machine(), pid, _start_time(pid) or "unknown")


def is_alive(worker: Worker) -> bool | None:
    """Return whether it runs; None when it is of another machine, which cannot be seen from here."""
    if worker.machine != _machine():
        return None
    return _start_time(worker.pid) == worker.start


@functools.lru_cache(maxsize=1)
def _machine() -> str:
    """Host name and a hash of what else must agree for process numbers to mean the same."""
    host = re.sub("[^A-Za-z0-9-]", "_", socket.gethostname())[:24]
    boot = Path("/proc/sys/kernel/random/boot_id")
    namespace = Path("/proc/self/ns/pid")
    facts = [
        boot.read_text() if boot.exists() else "",
        os.readlink(namespace) if namespace.is_symlink() else "",
    ]
    return f"{host}-{hashlib.sha256('|'.join(facts).encode()).hexdigest()[:8]}"


def _start_time(pid: int) -> str | None:
    """Return when the process began, in the system's notation; None when it is gone or only a zombie is left.

    Where there is /proc, in clock ticks since the start of the machine: psutil's seconds move when its clock is set.
    """
    if not Path("/proc/self/stat").exists():
        return _start_time_elsewhere(pid)
    try:
        status = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except OSError:
        return None
    state, *fields = status.rpartition(")")[2].split()  # the command's name may hold spaces and brackets
    return None if state in "ZX" else fields[18]  # field 22 of proc(5): clock ticks since boot


def _start_time_elsewhere(pid: int) -> str | None:
    """Return the same for systems without /proc, in milliseconds since 1970."""
    try:
        process = psutil.Process(pid)
        return None if process.status() == psutil.STATUS_ZOMBIE else str(round(process.create_time() * 1000))
    except psutil.Error:
        return None
