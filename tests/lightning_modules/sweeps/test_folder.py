"""The same command goes on with a sweep that is not done, and begins another after one that is."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from lightning_modules.errors import CodingError
from lightning_modules.sweeps.folder import SweepRecord, begin, begun_by, close, read
from lightning_modules.sweeps.record import UNFINISHED, SweepJob

WORDS = ["-m", "experiment=sga", "lmbda=0.001,0.01", "hydra.launcher.jobs=2"]
DEAD = "another-machine-00000000.1.1"


def left_behind(sweep: Path, words: list[str] = WORDS, errors: tuple[str | None, ...] = (None, UNFINISHED)) -> Path:
    """The folder of a sweep whose process is gone: it ran here, under a number that none has."""
    begin(sweep, words, is_named=True)
    for number, error in enumerate(errors):
        SweepJob(number, "test", [], error).write(job(sweep, number))
    machine = SweepRecord.of([]).worker.split(".")[0]
    record = read(sweep)
    assert record is not None
    record._replace(worker=f"{machine}.999999999.0").write(sweep)
    return sweep


def job(sweep: Path, number: int) -> Path:
    folder = sweep / f"{number}_job"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.mark.parametrize(
    ("words", "is_same"),
    [
        (WORDS, True),
        (["experiment=sga", "--multirun", "hydra/launcher=joblib", "lmbda=0.001,0.01"], True),
        (["-m", "experiment=sga", "lmbda=0.001,0.02"], False),
        (["-m", "experiment=sga", "lmbda=0.001,0.01", "seed=1"], False),
    ],
)
def test_a_sweep_that_is_not_done_goes_on_by_the_same_command_and_by_no_other(
    words: list[str], is_same: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    earlier = left_behind(tmp_path / "sweep_1")
    assert begin(tmp_path / "sweep_2", words, is_named=False) == (earlier if is_same else tmp_path / "sweep_2")
    assert ("going on with" in capsys.readouterr().err) == is_same


def test_given_in_another_folder_it_is_another_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    left_behind(tmp_path / "sweep_1")
    monkeypatch.chdir(tmp_path)
    assert begin(tmp_path / "sweep_2", WORDS, is_named=False) == tmp_path / "sweep_2"


def test_a_folder_that_is_named_is_taken_and_the_newest_of_several_otherwise(tmp_path: Path) -> None:
    for number in range(3):
        sweep = left_behind(tmp_path / f"sweep_{number}")
        os.utime(sweep / "sweep.json", (number, number))
    assert begin(tmp_path / "mine", WORDS, is_named=True) == tmp_path / "mine"
    left_behind(tmp_path / "mine", ["-m", "seed=1,2"])
    assert begin(tmp_path / "sweep_9", WORDS, is_named=False) == tmp_path / "sweep_2"


def test_a_sweep_that_is_done_stays_as_it_is(tmp_path: Path) -> None:
    done = left_behind(tmp_path / "sweep_1", errors=(None, None))
    assert close(done, is_whole=True) == []
    assert begin(tmp_path / "sweep_2", WORDS, is_named=False) == tmp_path / "sweep_2"


@pytest.mark.parametrize(("is_whole", "errors"), [(False, (None, None)), (True, (None, "no memory"))])
def test_one_that_was_stopped_or_has_a_failed_job_is_not_done(
    is_whole: bool, errors: tuple[str | None, ...], tmp_path: Path
) -> None:
    stopped = left_behind(tmp_path / "sweep_1", errors=errors)
    close(stopped, is_whole)
    assert begin(tmp_path / "sweep_2", WORDS, is_named=False) == stopped


def test_a_sweep_that_runs_or_may_run_elsewhere_is_not_disturbed(tmp_path: Path) -> None:
    running = left_behind(tmp_path / "sweep_1")
    record = read(running)
    assert record is not None
    parent = SweepRecord.of([]).worker.split(".")[0]
    init = Path("/proc/1/stat").read_text().rpartition(")")[2].split()[19]
    record._replace(worker=f"{parent}.1.{init}").write(running)  # a process that lives as long as the machine
    assert begin(tmp_path / "sweep_2", WORDS, is_named=False) == tmp_path / "sweep_2"
    with pytest.raises(CodingError, match=r"sweep_1: another process is at this sweep; wait for it, or give"):
        begin(running, WORDS, is_named=True)
    record._replace(worker=DEAD).write(running)
    assert begin(tmp_path / "sweep_3", WORDS, is_named=False) == tmp_path / "sweep_3"
    assert begin(running, WORDS, is_named=True) == running, "whoever names it knows"


def test_closing_names_each_failed_job_with_its_log(tmp_path: Path) -> None:
    sweep = left_behind(tmp_path / "sweep_1", errors=(None, "no memory", "-1 is below 0"))
    (sweep / "1_job" / "job.log").touch()
    assert close(sweep, is_whole=True) == [
        f"failed: 1_job: no memory; log: {sweep / '1_job' / 'job.log'}",
        f"failed: 2_job: -1 is below 0; log: none, it never began in {sweep / '2_job'}",
    ]


def test_a_sweep_that_never_came_to_a_job_leaves_nothing(tmp_path: Path) -> None:
    begin(tmp_path / "sweep_1", WORDS, is_named=False)
    assert close(tmp_path / "sweep_1", is_whole=False) == []
    assert list(tmp_path.iterdir()) == []


def test_resuming_a_sweep_is_the_command_that_began_it_with_what_is_added(tmp_path: Path) -> None:
    sweep = left_behind(tmp_path / "it's", [*WORDS, "hydra.sweep.dir=elsewhere"])
    begun = begun_by([f"resume={sweep}", "hydra.launcher.jobs=4"])
    assert begun == (sweep, str(Path.cwd()), [*WORDS[1:], "hydra.launcher.jobs=4"])
    assert begun_by([f"resume={tmp_path}"]) is None, "a training's folder"
