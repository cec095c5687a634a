"""One task, from its settings to its end: what it needs, threads, seeds, signals, and its error in one line."""

from __future__ import annotations

import logging
import os
import sys
import warnings
from contextlib import AbstractContextManager, nullcontext

from omegaconf import DictConfig, OmegaConf, open_dict

from lightning_modules.errors import UserError
from lightning_modules.launch.building import ComposedRun, task_of
from lightning_modules.launch.errors import explain
from lightning_modules.launch.mistyped import refuse_mistyped_additions
from lightning_modules.launch.paths import folders_of_run
from lightning_modules.launch.resolvers import sweep_dir
from lightning_modules.launch.resuming import store_run


def run_task(cfg: DictConfig, overrides: list[str]) -> None:
    """Do the task of a configuration. Exits with one line for what users can mend; in a sweep it raises that."""
    try:
        require(cfg)
        require_trust(cfg)
        refuse_mistyped_additions(cfg, overrides, folders_of_run())
        prepare(cfg, overrides)
        with open_dict(cfg):
            task_of(cfg)(ComposedRun(cfg))
    except Exception as error:
        line = None if sweep_dir() is not None else explain(error)  # of a job, its record says why
        if line is None:
            raise
        print(f"error: {line}", file=sys.stderr)
        sys.exit(1)
    finally:
        leave_nothing_behind()


def require(cfg: DictConfig) -> None:
    """Raise `UserError` for what the task needs and is missing, before anything heavy is imported."""
    missing = [key for key in cfg.task.get("needs") or [] if OmegaConf.select(cfg, key) is None]
    if missing:
        raise UserError(f"task={cfg.task.name} needs {' and '.join(f'{key}=...' for key in missing)}")


def require_trust(cfg: DictConfig) -> None:
    """Raise `UserError` for a codec of a package that the user does not trust: its models could never be read."""
    from lightning_modules.checkpoints import trust

    trust.allow(cfg.get("trust") or [])  # absent from runs of before there was any
    trust.require_allowed(cfg.module.codec._target_)


def watched(cfg: DictConfig) -> AbstractContextManager[None]:
    """Make signals requests within, where a task stops between two files."""
    from lightning_modules.system import stop_request

    return stop_request.watched() if cfg.task.get("stops_between_files") else nullcontext()


def prepare(cfg: DictConfig, overrides: list[str]) -> None:
    """Set threads and seeds, and keep of a task that can be resumed what it is resumed with."""
    import lightning

    quieten()
    if cfg.threads is not None:
        import torch

        torch.set_num_threads(cfg.threads)
    lightning.seed_everything(cfg.seed, workers=True, verbose=False)
    if cfg.task.get("resumable") and cfg.resume is None and "LOCAL_RANK" not in os.environ:
        store_run(cfg, overrides)


def leave_nothing_behind() -> None:
    """End what the libraries of a run have started."""
    if "wandb" in sys.modules:
        sys.modules["wandb"].finish()
    distributed = sys.modules.get("torch.distributed")
    if distributed is not None and distributed.is_available() and distributed.is_initialized():
        distributed.destroy_process_group()


def quieten() -> None:
    """Leave out what libraries say about themselves; their warnings about us stay."""
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    logging.getLogger("lightning.fabric").setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", category=FutureWarning, module="(torch|compressai)")
    warnings.filterwarnings(
        "ignore", message=".*(LeafSpec|TF32 acceleration|many workers|transfer_batch_to_device|sync_dist).*"
    )
