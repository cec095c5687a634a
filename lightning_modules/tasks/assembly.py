"""The parts that most tasks are made of: the codec of a run, its module, and the trainer that drives it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from lightning_modules.tasks.run import Run


def build_codec(run: Run) -> Any:
    """Return the experiment's codec: fresh, or the one that `ckpt` names; told what `decoding` chooses."""
    decodings = run.build_each(run.cfg.get("decoding"))  # absent from runs of before there was any
    codec = load_codec(run) if run.cfg.ckpt is not None else run.build(run.cfg.module.codec)
    for decoding in decodings:
        decoding(codec)
    return codec


def load_codec(run: Run) -> Any:
    """Return the codec whose weights `ckpt` names. Raises `CodingError` for what is no such weights."""
    from lightning_modules.checkpoints.checkpoint import load_codec as load

    cfg = run.cfg
    codec_class = run.get_class(cfg.module.codec._target_)
    return load(str(cfg.ckpt), codec_class, lmbda=cfg.lmbda, cache_dir=Path(cfg.paths.cache_dir))


def build_module(run: Run, codec: Any) -> Any:
    """Return the experiment's module, which drives `codec`."""
    return run.build(run.cfg.module, codec=None, _partial_=True)(codec=codec)


def build_trainer(run: Run) -> Any:
    """Return the trainer with the task's callbacks and the run's loggers; `provenance` keeps the configuration."""
    cfg = run.cfg
    if "provenance" in cfg.task.callbacks:
        cfg.task.callbacks.provenance.config = OmegaConf.to_container(cfg, resolve=True)
    callbacks, loggers = run.build_each(cfg.task.callbacks), run.build_each(cfg.logger)
    settings = run.build(trainer_settings(cfg), _partial_=True, **precision(cfg))
    return settings(callbacks=callbacks, logger=loggers)


def trainer_settings(cfg: DictConfig) -> dict[str, Any]:
    """Return the trainer's settings without those that a callback reads, and without a precision of our own."""
    own = ["memory_format", "compile"] + (["precision"] if cfg.trainer.get("precision") == "auto" else [])
    settings = OmegaConf.to_container(cfg.trainer, resolve=True)
    assert isinstance(settings, dict), "a node of the configuration with names"
    return {str(name): value for name, value in settings.items() if name not in own}


def precision(cfg: DictConfig) -> dict[str, Any]:
    """Return what Lightning is told where the precision is `auto`."""
    if cfg.trainer.get("precision") != "auto":
        return {}
    from callbacks.training_precision import quickest_precision

    return quickest_precision(cfg.trainer.accelerator)
