"""Going on with a training or a sweep that was interrupted: what is kept of a run, and what may change."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from lightning_modules.errors import UserError
from lightning_modules.launch.paths import CONF


def stored_run(cfg: DictConfig, overrides: list[str]) -> DictConfig:
    """Return the configuration that the run folder `cfg.resume` was started with, changed by this command line.

    Single values may change (steps=, trainer.devices=); another experiment or module is another run.
    Raises `UserError` for it, and for a folder that is no training's.
    """
    from lightning_modules.checkpoints.training_record import RUN_FILE

    path = Path(cfg.resume) / RUN_FILE
    if not path.is_file():
        raise UserError(f"{path}: not found, so {cfg.resume} is not a training run's folder; give one with resume=")
    stored = OmegaConf.load(path)
    for override in overrides:
        key, _, _ = override.partition("=")
        if key == "resume" or override in stored.overrides:
            continue
        if (CONF / key).is_dir():
            raise UserError(f"{override}: not part of the run in {cfg.resume}; start a new run for it")
        OmegaConf.update(stored.config, key, OmegaConf.select(cfg, key), force_add=False)
    values: Any = OmegaConf.to_container(stored.config)
    return OmegaConf.create({**values, "resume": cfg.resume})  # a root of its own, for interpolations


def store_run(cfg: DictConfig, overrides: list[str]) -> None:
    """Leave in a run's folder what `stored_run` reads."""
    from lightning_modules.checkpoints.training_record import RUN_FILE

    path = Path(cfg.paths.output_dir) / RUN_FILE
    path.parent.mkdir(parents=True, exist_ok=True)
    OmegaConf.save({"overrides": overrides, "config": OmegaConf.to_container(cfg)}, path)


def resume_sweep() -> None:
    """Make `resume=FOLDER`, if that is a sweep's, the command that began it, given in the folder where it was."""
    if any(word.startswith("resume=") for word in sys.argv):
        from lightning_modules.sweeps.folder import begun_by

        words = begun_by(sys.argv[1:])
        if words is not None:
            os.chdir(words.folder)
            sys.argv[1:] = ["-m", *words.words, f"hydra.sweep.dir={quoted(words.sweep)}"]


def quoted(value: object) -> str:
    """Write a value as Hydra's grammar reads it back."""
    text = str(value).replace("'", "\\'")
    return f"'{text}'"
