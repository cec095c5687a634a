"""One job of a sweep in a process of its own, and what is left to say when all of them have ended."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hydra.conf import HydraConf
from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import setup_globals
from omegaconf import DictConfig, OmegaConf, open_dict

from lightning_modules.launch.errors import one_line
from lightning_modules.launch.resolvers import sweep_dir
from lightning_modules.launch.task_run import run_task, watched


def do_job(folder: Path) -> None:
    """Do the job of a sweep whose frozen configuration lies in `folder`; its ranks come here as well."""
    from lightning_modules.sweeps import frozen_config
    from lightning_modules.sweeps.process import end_with_parent
    from lightning_modules.sweeps.record import claimed

    frozen = frozen_config.read(folder)
    adopt(frozen.hydra)
    overrides = list(frozen.hydra.overrides.task)
    sys.argv[1:] = overrides  # the command that does this job alone
    with watched(frozen.config):
        if "LOCAL_RANK" in os.environ:
            run_task(frozen.config, overrides)
            return
        end_with_parent()
        with claimed(folder):
            if not frozen_config.is_done(folder):
                with recorded(folder):
                    run_task(frozen.config, overrides)


def adopt(frozen: DictConfig) -> None:
    """Make that Hydra's configuration, as in the process that composed it."""
    setup_globals()
    settings = OmegaConf.structured(HydraConf)
    with open_dict(settings):  # plugins add their own
        settings.merge_with(frozen)
    HydraConfig.instance().set_config(OmegaConf.create({"hydra": settings}))
    os.environ.update(settings.job.env_set)


@contextmanager
def recorded(folder: Path) -> Iterator[None]:
    """Leave in the folder of a sweep's job what became of it."""
    from lightning_modules.sweeps import record

    job = record.read(folder)
    assert job is not None, "written when it was frozen"
    try:
        yield
    except Exception as error:
        job._replace(error=one_line(error)).write(folder)
        raise
    job._replace(error=None).write(folder)


def end_sweep(is_whole: bool) -> int:
    """Leave a table of what the jobs of a sweep have measured, print a line for each that failed, count those."""
    folder = sweep_dir() if HydraConfig.initialized() else None
    if folder is None or not folder.is_dir():
        return 0
    from lightning_modules.reports.sweep_summary import summarize
    from lightning_modules.sweeps.folder import close

    summarize(folder)
    failed = close(folder, is_whole)
    for line in failed if is_whole else []:
        print(line, file=sys.stderr)
    return len(failed)
