"""Sweeps as a user starts them: one folder, one table, one line for a job that fails; studies by one command."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf
from PIL import Image

from lightning_modules.launch.paths import CONF
from lightning_modules.launch.resolvers import once
from lightning_modules.launch.sweep_launcher import same_for_all
from tests.harness.command_line import run as run_command
from tests.harness.command_line import start, succeed
from tests.lightning_modules.sga.small_refinement import crop_of_photograph

STUDIES = sorted(path.stem for path in CONF.glob("experiment/study_*.yaml"))


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two small pictures, in a folder whose name has a space."""
    folder = tmp_path_factory.mktemp("data") / "my photos"
    folder.mkdir()
    for k, name in enumerate(("a.png", "b.png")):
        crop = crop_of_photograph(60 + 40 * k, 150, 64, 64)
        Image.fromarray((crop[0].permute(1, 2, 0) * 255).round().byte().numpy()).save(folder / name)
    return folder


def table_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.faults
def test_of_four_jobs_one_fails_and_the_same_command_again_redoes_only_that_one(photos: Path, tmp_path: Path) -> None:
    logs, missing = tmp_path / "logs", tmp_path / "missing"
    where = (f"datamodule.test='{photos}','{missing}'", "datamodule=image_folder", "logger=none")
    jobs = ("experiment=sga,sga_ssl", "inference.steps=4", f"paths.log_dir={logs}", "hydra.launcher.jobs=2")
    command = ("-m", "task=test", "ckpt=demo", *jobs, *where)
    missing.mkdir()
    shutil.copy(photos / "a.png", missing)
    first = start(*command)
    victim = kill_job(logs, "3_", first)
    first_errors = first.communicate(timeout=500)[1]
    assert first.returncode == 1
    (sweep,) = logs.glob("*/*")
    folders = sorted(path.name for path in sweep.iterdir() if path.is_dir())
    assert [name.partition("_datamodule.test-")[0] for name in folders] == [
        "0_experiment-sga",
        "1_experiment-sga",
        "2_experiment-sga_ssl",
        "3_experiment-sga_ssl",
    ]
    assert folders[0].endswith("my_photos")
    told = [line for line in first_errors.splitlines() if line.startswith(("failed: ", "error: "))]
    assert told == [
        f"failed: {victim.name}: killed by SIGKILL, as by a system short of memory; log: {victim / 'job.log'}",
        "error: 1 job has failed; the same command does it again",
    ]
    rows = table_of(sweep / "summary.csv")
    assert [row["job"] for row in rows] == folders
    assert [row["pictures"] for row in rows] == ["2", "1", "2", "0"]
    results = table_of(sweep / folders[2] / "results.csv")
    losses = [0.01 * 255**2 / 10 ** (float(row["psnr"]) / 10) + float(row["bpp"]) for row in results]
    assert float(rows[2]["loss"]) == pytest.approx(sum(losses) / 2, abs=1e-5)
    assert float(rows[2]["loss_percent"]) < 100
    assert (sweep / "summary.png").stat().st_size > 0
    stamps = {name: (sweep / name / "results.csv").stat().st_mtime_ns for name in folders[:3]}
    again = run_command(*command)
    assert again.returncode == 0, again.stderr[-3000:]
    assert f"going on with {sweep}, which is not done" in again.stderr
    assert "3 of 4 jobs were done before" in again.stderr
    assert {name: (sweep / name / "results.csv").stat().st_mtime_ns for name in folders[:3]} == stamps
    assert [row["pictures"] for row in table_of(sweep / "summary.csv")] == ["2", "1", "2", "1"]


def kill_job(logs: Path, beginning: str, sweep: subprocess.Popen[str]) -> Path:
    """The folder of that job, which has been killed as soon as it had a process."""
    deadline = time.monotonic() + 300
    while sweep.poll() is None:
        assert time.monotonic() < deadline
        for claim in logs.glob(f"*/*/{beginning}*/.latentpress/claims/*"):
            with suppress(ValueError, KeyError, OSError):  # it is just being written
                os.kill(int(json.loads(claim.read_text())["worker"].split(".")[1]), signal.SIGKILL)
                return claim.parents[2]
        time.sleep(0.01)
    raise AssertionError("the sweep ended before the job could be killed: " + sweep.communicate()[1][-2000:])


@pytest.mark.parametrize("trainer", ["cpu", pytest.param("ddp_cpu", marks=pytest.mark.slow)])
def test_a_study_is_one_command_and_each_of_its_jobs_is_done_once_by_one_process_or_two(
    trainer: str, photos: Path, tmp_path: Path
) -> None:
    where = (f"datamodule.test='{photos}'", "datamodule=image_folder", "logger=none", f"hydra.sweep.dir={tmp_path}")
    changes = ("inference.method.rule.a=1.0,2.3", "inference.steps=4", f"trainer={trainer}")
    printed = succeed("experiment=study_ssl_a", "ckpt=demo", *changes, *where)
    assert printed.count("means over pictures") == 1
    rows = table_of(tmp_path / "summary.csv")
    assert [(row["job"], row["rule.a"], row["pictures"]) for row in rows] == [
        ("0_rule.a-1.0", "1.0", "2"),
        ("1_rule.a-2.3", "2.3", "2"),
    ]
    assert all(float(row["loss_percent"]) < 100 for row in rows)
    assert Image.open(tmp_path / "summary.png").size[0] == 2 * 640, "rate and quality, and the loss by a"


@pytest.mark.slow
def test_a_folder_in_shards_is_coded_once_with_one_report_and_decodes_in_shards(photos: Path, tmp_path: Path) -> None:
    files, decoded, logs = tmp_path / "files", tmp_path / "decoded", f"paths.log_dir={tmp_path / 'logs'}"
    how = ("shard=0/2,1/2", "hydra.launcher.jobs=2", "logger=none", logs)
    succeed("-m", "task=compress", "experiment=hyperprior", "ckpt=demo", f"input='{photos}'", f"output={files}", *how)
    succeed("-m", "task=decompress", f"input={files}", f"output={decoded}", *how)
    for folder, names in ((files, ["a.png", "b.png"]), (decoded, ["a.png.lpc", "b.png.lpc"])):
        rows = table_of(folder / "report.csv")
        assert [(row["name"], row["status"]) for row in rows] == [(name, "ok") for name in names]
    assert sorted(path.name for path in decoded.glob("*.png")) == ["a.png", "b.png"]
    assert run_command("task=decompress", "shard=2/2", f"input={files}", f"output={decoded}", logs).returncode == 1


@pytest.fixture
def configurations() -> Iterator[None]:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        yield


@pytest.mark.parametrize("study", STUDIES)
@pytest.mark.usefixtures("configurations")
def test_a_study_is_a_sweep_of_tests_whose_settings_exist(study: str) -> None:
    config = compose("config", [f"experiment={study}"], return_hydra_config=True)
    assert str(config.hydra.mode).endswith("MULTIRUN")
    assert (config.task.name, config.name) == ("test", study)
    presets = [f"{key}={value}" for key, value in config.hydra.sweeper.params.items()]
    (jobs,) = BasicSweeper.split_arguments(OverridesParser.create().parse_overrides(presets), None)
    assert len(jobs) >= 6
    for job in (jobs[0], jobs[-1]):
        composed = compose("config", [f"experiment={study}", *job], return_hydra_config=False)
        for override in job:
            key, _, value = override.partition("=")
            if not (CONF / key).is_dir():
                assert OmegaConf.select(composed, key) == float(value)


@pytest.mark.usefixtures("configurations")
def test_a_job_is_not_named_for_what_is_the_same_for_all() -> None:
    config = compose(
        "config",
        ["experiment=study_learning_rate", "ckpt=demo", "inference.steps=500", "seed=1", "~logger", "+x=1"],
        return_hydra_config=True,
    )
    config.hydra.overrides.task += ["trainer=cpu,ddp_cpu"]
    same = same_for_all(config)
    assert set(same) == {"experiment", "ckpt", "inference.steps", "seed", "logger", "x"}


def test_the_folder_of_a_sweep_does_not_follow_the_names_of_its_jobs() -> None:
    assert OmegaConf.has_resolver(once.__name__), "importing its file registers it"
    text = {"name": "first", "dir": "${once:logs/${name}}"}
    sweep, job = OmegaConf.create(text), OmegaConf.create(text | {"name": "second"})
    assert sweep.dir == "logs/first"
    OmegaConf.copy_cache(sweep, job)  # as Hydra does for each job
    assert job.dir == "logs/first"
