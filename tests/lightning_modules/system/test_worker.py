"""A process is told from every other one, also where there is no /proc."""

from __future__ import annotations

import os
import subprocess
import sys

from lightning_modules.system import worker


def test_a_process_has_one_start_time_until_it_ends() -> None:
    for start_time in (worker._start_time, worker._start_time_elsewhere):
        mine = start_time(os.getpid())
        assert mine is not None
        assert mine.isdigit()
        assert start_time(os.getpid()) == mine


def test_a_process_that_has_ended_has_none() -> None:
    child = subprocess.Popen([sys.executable, "-c", "pass"])
    try:
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)  # a zombie until it is waited for
        assert worker._start_time(child.pid) is None
        assert worker._start_time_elsewhere(child.pid) is None
    finally:
        child.wait()
    assert worker._start_time(child.pid) is None
    assert worker._start_time_elsewhere(child.pid) is None
