"""Sweeps: what their jobs are to know before the first begins, and the launcher that gives each a process."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn, JobStatus, run_job, setup_globals
from hydra.experimental.callback import Callback
from hydra.plugins.launcher import Launcher
from omegaconf import DictConfig, OmegaConf, open_dict, read_write

from lightning_modules.errors import JobFailed
from lightning_modules.launch.errors import one_line
from lightning_modules.launch.paths import JOB_COMMAND, REPOSITORY
from lightning_modules.launch.resuming import quoted


class SweepStart(Callback):
    """What jobs are to know of their sweep before the first begins; `entry` sees to what comes after the last."""

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Leave out of jobs' names what is the same for all; the configuration stays, also when a job fails."""
        from lightning_modules.sweeps.folder import begin

        del kwargs
        found = os.environ.get("PYTHONPATH")
        os.environ["PYTHONPATH"] = os.pathsep.join([str(REPOSITORY), *([found] if found else [])])  # of launchers
        same = ",".join(f"'{key}'" for key in same_for_all(config))
        with read_write(config):
            config.hydra.overrides.hydra.append(f"hydra.job.config.override_dirname.exclude_keys=[{same}]")
            named = any(override.startswith("hydra.sweep.dir=") for override in config.hydra.overrides.hydra)
            folder = begin(Path(config.hydra.sweep.dir), sys.argv[1:], named)
            config.hydra.sweep.dir = str(folder)
            config.hydra.overrides.hydra.append(f"hydra.sweep.dir={quoted(folder)}")
        HydraConfig.instance().set_config(config)


def same_for_all(config: DictConfig) -> list[str]:
    """Keys that a sweep gives one value, on its command line or in its experiment."""
    presets = [f"{key}={value}" for key, value in (config.hydra.sweeper.get("params") or {}).items()]
    overrides = OverridesParser.create().parse_overrides([*presets, *config.hydra.overrides.task])
    swept = {override.key_or_group: override.is_sweep_override() for override in overrides}
    return [key for key, several in swept.items() if not several]


class ProcessLauncher(Launcher):
    """`hydra/launcher=subprocess`: each job of a sweep in a process of its own, `jobs` of them at once."""

    __module__ = "hydra_plugins.latentpress"  # Hydra takes launchers from that package only

    def __init__(self, jobs: int = 1) -> None:
        self.jobs = jobs

    def setup(self, *, hydra_context: Any, task_function: Any, config: DictConfig) -> None:
        del task_function  # a process of its own knows what to do
        self.hydra_context, self.config = hydra_context, config

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        from lightning_modules.sweeps import frozen_config
        from lightning_modules.sweeps.process_pool import JobCrew

        setup_globals()
        jobs = [self._frozen(overrides, number) for number, overrides in enumerate(job_overrides, initial_job_idx)]
        folders = [job.return_value for job in jobs if job.status == JobStatus.COMPLETED]
        pending = [folder for folder in folders if not frozen_config.is_done(folder)]
        if len(pending) < len(folders):
            print(f"{len(folders) - len(pending)} of {len(jobs)} jobs were done before", file=sys.stderr)
        JobCrew(JOB_COMMAND, self.jobs).run(pending)
        return [judged(job) for job in jobs]

    def _frozen(self, overrides: Sequence[str], number: int) -> JobReturn:
        config = self.hydra_context.config_loader.load_sweep_config(self.config, list(overrides))
        with open_dict(config):
            config.hydra.job.id = config.hydra.job.num = number
        return run_job(freeze_job, config, "hydra.sweep.dir", "hydra.sweep.subdir", self.hydra_context)


def offer(launcher: type[Launcher]) -> None:
    """Hydra looks a launcher up by name in its package of plugins, which is not there while none is installed."""
    Plugins.instance().register(launcher)
    package, _, name = launcher.__module__.partition(".")
    module = sys.modules[launcher.__module__] = ModuleType(launcher.__module__)
    setattr(module, launcher.__name__, launcher)
    setattr(sys.modules.setdefault(package, ModuleType(package)), name, module)


class JudgedJob(JobReturn):
    """As Hydra's, without a word of its own where a job has failed."""

    @property
    def return_value(self) -> Any:
        if self.status == JobStatus.FAILED:
            raise self._return_value
        return self._return_value

    @return_value.setter
    def return_value(self, value: Any) -> None:
        self._return_value = value


def one_of_a_sweep(cfg: DictConfig) -> float | None:
    """Start the process that does a job, where a launcher of Hydra's takes this function for the job itself."""
    from lightning_modules.sweeps import frozen_config
    from lightning_modules.sweeps.process import complete

    folder = freeze_job(cfg)
    if not frozen_config.is_done(folder):
        complete(JOB_COMMAND, folder)
    return result(folder, cfg.optimize)


def freeze_job(cfg: DictConfig) -> Path:
    """Leave the job's configuration and its record in its folder, which is returned.

    What cannot be computed is the job's failure. A job that was done before, or is being done, keeps its record.
    """
    from lightning_modules.sweeps import frozen_config, record

    config = HydraConfig.get()
    folder, plain = Path(config.runtime.output_dir), OmegaConf.to_container(config, resolve=True, enum_to_str=True)
    overrides, key = list(config.overrides.task), frozen_config.key_of(cfg)
    job = record.SweepJob(config.job.num, cfg.task.name, overrides, record.UNFINISHED, key)
    try:
        frozen_config.freeze(cfg, plain, folder)
    except Exception as error:
        job._replace(error=one_line(error)).write(folder)
        raise
    if record.read(folder) not in (job, job._replace(error=None)):
        job.write(folder)
    return folder


def judged(job: JobReturn) -> JobReturn:
    """Return a job that was frozen, with what came of it."""
    assert job.hydra_cfg is not None, "Hydra has filled it in"
    assert job.cfg is not None, "Hydra has filled it in"
    value: Any
    try:
        value, status = result(Path(job.hydra_cfg.hydra.runtime.output_dir), job.cfg.optimize), JobStatus.COMPLETED
    except JobFailed as error:
        value, status = error, JobStatus.FAILED
    return JudgedJob(**{**vars(job), "status": status, "_return_value": value})


def result(folder: Path, measure: str | None) -> float | None:
    """Return the mean of what a search of settings looks at. Raises `JobFailed`."""
    from lightning_modules.reports.sweep_results import outcome
    from lightning_modules.sweeps import record

    left = record.read(folder)
    error = left.error if left else record.UNFINISHED
    value = outcome(left, folder).means.named(measure) if left and measure and not error else None
    if measure and not error and value is None:
        error = f"has measured no {measure}, which optimize= names"
    if error:
        raise JobFailed(f"{folder.name}: {error}")
    return value
