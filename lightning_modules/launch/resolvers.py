"""Values that configurations compute, `${at_or_below:...}` for one; importing this file registers them."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import OmegaConf

from lightning_modules.errors import UserError


def at_or_below(value: float, table: dict[float, Any]) -> Any:
    """Return the entry of the largest key that is not above `value`. Raises `UserError` below the least key."""
    if float(value) < min(table):
        raise UserError(f"{value:g} is below {min(table):g}, the least value there is a setting for; check lmbda=")
    return table[max(key for key in table if key <= float(value))]


def choose(key: str, table: dict[str, Any]) -> Any:
    """Return the entry of `key`; None for a key that is not there, whose fault is told where it is used."""
    return table.get(key)


def greatest(*values: float) -> float:
    """Return the largest of some numbers."""
    return max(values)


def least(*values: float) -> float:
    """Return the smallest of some numbers."""
    return min(values)


def run_dir(resume: str | None, fresh: str) -> str:
    """Return the folder of a run: a resumed one goes on in its own."""
    return resume or fresh


def short_hash(text: str) -> str:
    """Return twelve hexadecimal digits that stand for `text`."""
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def sweep_dir() -> Path | None:
    """Return the folder of the sweep that this job belongs to; None outside sweeps."""
    config = HydraConfig.get()
    return Path(config.sweep.dir) if str(config.mode).endswith("MULTIRUN") else None


def sweep_name() -> str | None:
    """Return the own name of the sweep's folder; None outside sweeps."""
    folder = sweep_dir()
    return folder.name if folder else None


def job_folder() -> str:
    """Name the folder of a job of a sweep: its number, and how it differs from the others."""
    from lightning_modules.sweeps.overrides import folder_name

    config = HydraConfig.get()
    name = folder_name(config.overrides.task, config.job.config.override_dirname.exclude_keys)
    return f"{config.job.num}_{name}".rstrip("_")


def once(value: str) -> str:
    """Return for each job the value that the sweep as a whole had: all lie in one folder."""
    return value


for resolver in (at_or_below, choose, greatest, least, run_dir, short_hash, sweep_name, job_folder):
    OmegaConf.register_new_resolver(resolver.__name__, resolver, replace=True)
OmegaConf.register_new_resolver(once.__name__, once, replace=True, use_cache=True)
