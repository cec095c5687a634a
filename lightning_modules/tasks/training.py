"""Training a codec, and measuring one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from lightning_modules.tasks.assembly import build_codec, build_module, build_trainer
from lightning_modules.tasks.models import choice_for
from lightning_modules.tasks.run import Run


def fit(run: Run) -> None:
    """Train, or go on training; then test the best checkpoint and leave it as a packaged model with its card."""
    from lightning_modules.checkpoints.model_card import MODEL_NAME
    from lightning_modules.checkpoints.packaged_model import save_model

    cfg = run.cfg
    trainer, datamodule, codec = build_trainer(run), run.build(cfg.task.datamodule), build_codec(run)
    module = build_module(run, codec.train())
    trainer.fit(module, datamodule=datamodule, ckpt_path=last_checkpoint(cfg))
    if trainer.interrupted:
        raise KeyboardInterrupt
    trainer.test(module, datamodule=datamodule, ckpt_path=trainer.checkpoint_callback.best_model_path)
    if trainer.is_global_zero:
        path = Path(cfg.paths.output_dir) / MODEL_NAME
        save_model(codec, path)
        print(f"model: {path}")
        present(run, trainer, codec, path)


def last_checkpoint(cfg: DictConfig) -> Path | None:
    """Return where an interrupted training goes on; None when it had not come to its first checkpoint."""
    path = Path(cfg.paths.output_dir) / "checkpoints" / "last.ckpt"
    return path if cfg.resume is not None and path.is_file() else None


def present(run: Run, trainer: Any, codec: Any, model: Path) -> None:
    """Leave the card beside a trained model, and both in the loggers. A run of before there were cards has none."""
    if "card" not in run.cfg.task:
        return
    from callbacks.logged_files import log_model
    from lightning_modules.checkpoints.model_card import Subject

    subject = Subject(codec, str(model), model, choice_for(run, codec))
    files = run.build(run.cfg.task.card).write(subject, [], model.parent)
    for logger in trainer.loggers:
        log_model(logger, files)


def test(run: Run) -> None:
    """Measure really decoded files."""
    trainer, datamodule, codec = build_trainer(run), run.build(run.cfg.task.datamodule), build_codec(run)
    trainer.test(build_module(run, codec), datamodule=datamodule)
