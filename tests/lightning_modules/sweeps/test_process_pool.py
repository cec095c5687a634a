"""Jobs in processes of their own: one that dies takes no other along, and a sweep that is stopped leaves none."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from lightning_modules.sweeps.process_pool import JobCrew, duration, progress
from lightning_modules.sweeps.record import UNFINISHED, records
from tests.conftest import REPOSITORY
from tests.harness.job_folders import COMMAND, job_folder

HELPER = "import subprocess; p = subprocess.Popen(['sleep', '100']); (here / 'pid').write_text(str(p.pid)); "
SWEEP = """
import sys
from pathlib import Path
from lightning_modules.sweeps.process_pool import JobCrew
JobCrew(sys.argv[2:], at_once=2).run(sorted(Path(sys.argv[1]).iterdir()))
"""


def errors(sweep: Path) -> list[str | None]:
    return [record.error for record, _ in records(sweep)]


def wait_for(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


def is_running(pid: int) -> bool:
    try:
        return "State:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return False


# ---- how jobs end


def test_jobs_that_raise_exit_or_are_killed_are_told_apart_and_stop_no_other(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ends = ["", "raise ValueError", "sys.exit(3)", "os.kill(os.getpid(), signal.SIGKILL)", "os._exit(0)", ""]
    JobCrew(COMMAND).run([job_folder(tmp_path, number, work) for number, work in enumerate(ends)])
    assert errors(tmp_path) == [
        None,
        "ended with exit code 1 before it was done",
        "ended with exit code 3 before it was done",
        "killed by SIGKILL, as by a system short of memory",
        "ended with exit code 0 before it was done",
        None,
    ]
    told = capsys.readouterr().err.splitlines()
    assert "2 has failed: ended with exit code 3 before it was done" in told
    assert told[-1] == "2 of 6 jobs done, 4 failed"
    assert "ValueError" in (tmp_path / "1" / "job.log").read_text()


def test_what_a_job_says_of_its_failure_stays(tmp_path: Path) -> None:
    says = 'r = json.loads((here / "job.json").read_text()); r["error"] = "no such folder"; '
    work = says + '(here / "job.json").write_text(json.dumps(r)); sys.exit(1)'
    JobCrew(COMMAND).run([job_folder(tmp_path, 0, work)])
    assert errors(tmp_path) == ["no such folder"]


def test_what_a_job_has_started_ends_with_it(tmp_path: Path) -> None:
    folders = [
        job_folder(tmp_path, 0, HELPER + "os.kill(os.getpid(), signal.SIGKILL)"),
        job_folder(tmp_path, 1, HELPER),
    ]
    JobCrew(COMMAND).run(folders)
    pids = [int((folder / "pid").read_text()) for folder in folders]
    wait_for(lambda: not any(map(is_running, pids)))


def test_a_job_on_a_cluster_starts_its_ranks_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_NTASKS", "1")
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    work = "assert 'SLURM_NTASKS' not in os.environ; assert os.environ['SLURM_JOB_ID'] == '7'"
    JobCrew(COMMAND).run([job_folder(tmp_path, 0, work)])
    assert errors(tmp_path) == [None]


# ---- side by side


def test_so_many_run_at_once_and_no_more(tmp_path: Path) -> None:
    others = "running = lambda: [p for p in here.parent.glob('*/on')]; (here / 'on').touch(); "
    meet = "t = time.monotonic()\nwhile len(running()) < 2 and time.monotonic() < t + 60: time.sleep(0.01)\n"
    leave = "n = len(running()); time.sleep(0.3); n = max(n, len(running())); (here / 'n').write_text(str(n))\n"
    works = [others + "\n" + meet + leave + "(here / 'on').unlink()" for _ in range(2)]
    JobCrew(COMMAND, at_once=2).run([job_folder(tmp_path, number, work) for number, work in enumerate(works)])
    assert [(tmp_path / str(number) / "n").read_text() for number in range(2)] == ["2", "2"]
    alone = tmp_path / "alone"
    works = [others + "\n" + leave + "(here / 'on').unlink()" for _ in range(2)]
    JobCrew(COMMAND, at_once=1).run([job_folder(alone, number, work) for number, work in enumerate(works)])
    assert [(alone / str(number) / "n").read_text() for number in range(2)] == ["1", "1"]


def test_output_goes_to_the_log_of_each_and_of_one_at_a_time_to_the_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    work = "print('a line'); print('another', file=sys.stderr)"
    one, two = job_folder(tmp_path / "one", 0, work), job_folder(tmp_path / "two", 0, work)
    JobCrew(COMMAND, at_once=1).run([one])
    assert sorted(capsys.readouterr().out.splitlines()) == ["a line", "another"]
    JobCrew(COMMAND, at_once=2).run([two])
    assert capsys.readouterr().out == ""
    assert [sorted((folder / "job.log").read_text().split("\n")) for folder in (one, two)] == [
        ["", "a line", "another"]
    ] * 2


@pytest.mark.parametrize(
    ("seconds", "failed", "total", "at_once", "line"),
    [
        ([60.0], 0, 4, 1, "1 of 4 jobs done, about 3 min left"),
        ([60.0, 120.0], 1, 4, 2, "1 of 4 jobs done, 1 failed, about 90 s left"),
        ([5.0] * 3, 0, 3, 1, "3 of 3 jobs done"),
    ],
)
def test_the_time_left_is_that_of_jobs_like_those_before(
    seconds: list[float], failed: int, total: int, at_once: int, line: str
) -> None:
    assert progress(seconds, failed, total, at_once) == line


def test_durations_are_told_in_the_unit_that_fits() -> None:
    assert [duration(s) for s in (7.4, 119, 120, 7200, 86400 * 3)] == ["7 s", "119 s", "2 min", "2 h", "3 d"]


# ---- stopping


def start_sweep(folder: Path) -> subprocess.Popen[str]:
    settings = {"PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", SWEEP, str(folder), *COMMAND]
    return subprocess.Popen(
        command, env=os.environ | settings, stderr=subprocess.PIPE, text=True, start_new_session=True
    )


def started(folder: Path) -> int:
    """The process that a job names, once it has begun."""
    path = folder / "pid"
    wait_for(lambda: path.exists() and path.read_text())
    return int(path.read_text())


@pytest.mark.faults
@pytest.mark.parametrize(("signum", "exit_code"), [(signal.SIGINT, -signal.SIGINT), (signal.SIGTERM, 143)])
def test_a_signal_reaches_all_that_run_and_lets_no_other_begin(
    signum: signal.Signals, exit_code: int, tmp_path: Path
) -> None:
    folders = [job_folder(tmp_path, number, HELPER + "time.sleep(100)") for number in range(3)]
    sweep = start_sweep(tmp_path)
    pids = [started(folder) for folder in folders[:2]]
    sweep.send_signal(signum)
    assert "waiting for jobs to stop" in sweep.communicate(timeout=60)[1]
    assert sweep.returncode == exit_code
    wait_for(lambda: not any(map(is_running, pids)))
    assert errors(tmp_path) == [UNFINISHED] * 3
    assert not (folders[2] / "job.log").exists()


@pytest.mark.faults
def test_a_second_signal_ends_jobs_that_do_not_listen(tmp_path: Path) -> None:
    deaf = "signal.signal(signal.SIGINT, signal.SIG_IGN); (here / 'pid').write_text(str(os.getpid())); time.sleep(100)"
    folder = job_folder(tmp_path, 0, deaf)
    sweep = start_sweep(tmp_path)
    pid = started(folder)
    sweep.send_signal(signal.SIGINT)
    time.sleep(0.5)
    assert is_running(pid)
    sweep.send_signal(signal.SIGINT)
    sweep.communicate(timeout=60)
    wait_for(lambda: not is_running(pid))


@pytest.mark.faults
def test_jobs_do_not_outlive_a_sweep_that_is_killed(tmp_path: Path) -> None:
    watch = "from lightning_modules.sweeps.process import end_with_parent; end_with_parent(); "
    folder = job_folder(tmp_path, 0, watch + HELPER + "time.sleep(100)")
    sweep = start_sweep(tmp_path)
    pid = started(folder)
    sweep.kill()
    sweep.communicate()
    wait_for(lambda: not is_running(pid))
