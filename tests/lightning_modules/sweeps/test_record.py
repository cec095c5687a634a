"""A job of a sweep is done by one process at a time, and its record tells what became of it."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from multiprocessing.synchronize import Event
from pathlib import Path

import pytest

from lightning_modules.sweeps.record import UNFINISHED, SweepJob, claimed, read, records

FORK = multiprocessing.get_context("fork")


def hold(folder: Path, inside: Event, leave: Event) -> None:
    with claimed(folder):
        inside.set()
        leave.wait(60)


def test_records_come_by_number_with_their_folders(tmp_path: Path) -> None:
    for number, error in ((10, None), (2, "no memory"), (1, UNFINISHED)):
        (tmp_path / f"{number}_x").mkdir()
        SweepJob(number, "test", ["lmbda=0.1"], error, "key").write(tmp_path / f"{number}_x")
    assert [(job.number, folder.name) for job, folder in records(tmp_path)] == [(1, "1_x"), (2, "2_x"), (10, "10_x")]
    assert read(tmp_path / "2_x") == SweepJob(2, "test", ["lmbda=0.1"], "no memory", "key")
    assert read(tmp_path) is None


def test_a_record_of_before_there_were_hashes_is_read(tmp_path: Path) -> None:
    (tmp_path / "job.json").write_text('{"number": 0, "task": "fit", "overrides": [], "error": null}')
    assert read(tmp_path) == SweepJob(0, "fit", [], None, "")


def test_a_second_process_waits_until_the_first_is_through(tmp_path: Path) -> None:
    events = [FORK.Event() for _ in range(4)]
    first = FORK.Process(target=hold, args=(tmp_path, *events[:2]))
    second = FORK.Process(target=hold, args=(tmp_path, *events[2:]))
    first.start()
    assert events[0].wait(60)
    second.start()
    assert not events[2].wait(1.5)
    events[1].set()
    assert events[2].wait(60)
    events[3].set()
    for process in (first, second):
        process.join(60)
        assert process.exitcode == 0


@pytest.mark.faults
def test_a_job_whose_process_was_killed_is_free_at_once(tmp_path: Path) -> None:
    inside, leave = FORK.Event(), FORK.Event()
    process = FORK.Process(target=hold, args=(tmp_path, inside, leave))
    process.start()
    assert inside.wait(60)
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    process.join(60)
    start = time.monotonic()
    with claimed(tmp_path):
        assert time.monotonic() - start < 5
