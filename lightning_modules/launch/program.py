"""The life of a command: a job of a sweep, a sweep, or one run; its exit code, and its errors in one line."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from lightning_modules.errors import JobFailed, Stopped, UserError
from lightning_modules.launch.errors import explain
from lightning_modules.launch.groups import take_whole
from lightning_modules.launch.paths import folders_of_command
from lightning_modules.launch.resolvers import sweep_dir
from lightning_modules.launch.resuming import resume_sweep, stored_run
from lightning_modules.launch.sweep_job import do_job, end_sweep
from lightning_modules.launch.sweep_launcher import ProcessLauncher, offer, one_of_a_sweep
from lightning_modules.launch.task_run import run_task, watched
from lightning_modules.system.heap import keep_freed_memory

JOB_FOLDER = "LATENTPRESS_JOB_FOLDER"
"""As `lightning_modules.sweeps.process.JOB_FOLDER`: imported, it would make every start slower."""

Main = Callable[[], None]
"""Hydra's side of `run.py`: reads the command line, composes, and calls `do` once or once for each job."""


def do(cfg: DictConfig) -> float | None:
    """Do one run; or, wherever one of Hydra's launchers has sent it, one job of a sweep."""
    if sweep_dir() is not None:
        return one_of_a_sweep(cfg)
    overrides = list(HydraConfig.get().overrides.task)
    cfg = cfg if cfg.resume is None else stored_run(cfg, overrides)
    with watched(cfg):
        run_task(cfg, overrides)
    return None


def enter(main: Main) -> int:
    """Run, and make one line of what users can mend. 0: all done. 1: something failed. 130, 143: interrupted."""
    keep_freed_memory()
    try:
        if JOB_FOLDER in os.environ:
            do_job(Path(os.environ[JOB_FOLDER]))
            return 0
        resume_sweep()
        list_inputs()
        take_whole(folders_of_command())
        return run_or_sweep(main)
    except Stopped as stop:
        print(stop, file=sys.stderr)
        return stop.exit_code
    except KeyboardInterrupt:
        print("interrupted; the same command, or resume=RUN_FOLDER for a training, goes on", file=sys.stderr)
        return 130
    except Exception as error:
        line = explain(error)
        if line is None:
            raise
        print(f"error: {line}", file=sys.stderr)
        return 1


def run_or_sweep(main: Main) -> int:
    """Let Hydra do what the command line asks for. Raises `UserError` for jobs that have failed."""
    offer(ProcessLauncher)
    failed = 0
    is_whole = False
    try:
        with suppress(JobFailed):
            main()
        is_whole = True
    finally:
        failed = end_sweep(is_whole)
    if failed:
        jobs = "job has" if failed == 1 else "jobs have"
        raise UserError(f"{failed} {jobs} failed; the same command does {'it' if failed == 1 else 'them'} again")
    return 0


def list_inputs() -> None:
    """Let `input=A,B`, which to Hydra is a sweep, be a list where the task says so: `lists` of its configuration."""
    if {"-m", "--multirun"} & set(sys.argv):
        return
    listed = _lists([word.removeprefix("task=") for word in sys.argv if word.startswith("task=")])
    for place, word in enumerate(sys.argv):
        key, _, value = word.partition("=")
        if key in listed and "," in value and not set(value) & set("[]'\""):
            sys.argv[place] = f"{key}=[{value}]"


def _lists(tasks: list[str]) -> list[str]:
    """Return the settings that the task named last takes several values of."""
    files = [folder / "task" / f"{name}.yaml" for name in tasks[-1:] for folder in folders_of_command()]
    found = [OmegaConf.load(path) for path in files if path.is_file()][:1]
    return [key for task in found for key in OmegaConf.select(task, "lists") or []]
