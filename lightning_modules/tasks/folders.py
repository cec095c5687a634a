"""Folder jobs: pictures to .lpc files, these to PNG, and progressive ones to shorter ones."""

from __future__ import annotations

import hashlib
import signal
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from lightning_modules.errors import Stopped, UserError
from lightning_modules.tasks.assembly import build_codec, build_module, build_trainer
from lightning_modules.tasks.run import Run

FAULTS_SHOWN = 5
"""Files of a folder job that failed, on the terminal; the report has all."""


def compress(run: Run) -> None:
    """Make .lpc files of pictures, and a report."""
    from lightning_modules.capabilities import require_codable
    from lightning_modules.checkpoints.checkpoint import PACKAGED
    from lightning_modules.checkpoints.model_library import remember
    from lightning_modules.coding.picture import model_fingerprint

    cfg = run.cfg
    run.build(cfg.task.job).check_writable()
    codec = build_codec(run)
    require_codable(codec)
    remember(codec, Path(cfg.paths.cache_dir) / "models", PACKAGED)
    sections = ("inference", "decoding", *(["metrics"] if cfg.get("metrics") else []))
    chosen = "".join(written(cfg, section) for section in sections)
    module = build_module(run, codec)
    cfg.task.job.key = f"{model_fingerprint(codec).hex()}-{short_hash(chosen + module.coder.key)}"
    predict(run, module)


def decompress(run: Run) -> None:
    """Make PNGs of .lpc files, each with the model that made it."""
    from lightning_modules.checkpoints.checkpoint import PACKAGED
    from lightning_modules.checkpoints.model_library import ModelLibrary
    from lightning_modules.decompression_module import DecompressionModule

    cfg = run.cfg
    decodings = run.build_each(cfg.get("decoding"))
    cfg.task.job.key = short_hash(written(cfg, "decoding"))
    run.build(cfg.task.job).check_writable()
    given = [] if cfg.ckpt is None else [build_codec(run)]
    library = ModelLibrary([PACKAGED, Path(cfg.paths.cache_dir) / "models"], given, decodings)
    predict(run, DecompressionModule(library=library))


def truncate(run: Run) -> None:
    """Cut progressive .lpc files to a lower rate."""
    from lightning_modules.decompression_module import TruncationModule

    cfg = run.cfg
    limit = run.build(cfg.task.limit)
    given = Path(cfg.input).resolve()
    if Path(cfg.output).resolve() == (given if given.is_dir() else given.parent):
        raise UserError(f"output={cfg.output}: is where the input lies; give another folder, the originals stay")
    cfg.task.job.key = short_hash(written(cfg.task, "limit"))
    run.build(cfg.task.job).check_writable()
    predict(run, TruncationModule(limit=limit))


def predict(run: Run, module: Any) -> None:
    """Do a folder job. The first process merges the report, which has the last word on what is there."""
    from lightning_modules.system import stop_request

    files = run.build(run.cfg.task.datamodule).predict_dataloader()
    trainer = build_trainer(run)
    launcher = trainer.strategy.launcher
    with stop_request.deferred(launcher.kill if launcher else lambda signum: None):
        trainer.predict(module, dataloaders=files, return_predictions=False)
        for process in getattr(launcher, "procs", ()):
            process.wait()  # asked to stop, it finishes its file before the report looks for it
        if trainer.is_global_zero:
            tell(run.build(run.cfg.task.job), files.items, stop_request.requested())


def tell(job: Any, items: list[Any], received: signal.Signals | None) -> None:
    """Write the report of a folder job that has ended, perhaps early by a signal, and judge it.

    Raises `Stopped` after a signal, and `UserError` where files have failed.
    """
    report = job.write_report(items)
    print(f"report: {report}")
    for line in job.report.totals:
        print(line)
    failed = f"{job.report.failed} of {job.report.files} files"
    if received is not None:
        raise Stopped(f"stopped by {received.name}: {failed} failed or not done; the same command goes on", received)
    for fault in job.report.faults[:FAULTS_SHOWN]:
        print(f"failed: {fault}")
    if job.report.failed:
        raise UserError(f"{failed} failed; {report} says why")


def written(cfg: DictConfig, section: str) -> str:
    """Return a section's settings as text; of one that was not chosen, that there are none."""
    return OmegaConf.to_yaml(cfg.get(section) or OmegaConf.create(), resolve=True)


def short_hash(text: str) -> str:
    """Return twelve hexadecimal digits that stand for the settings of a job."""
    return hashlib.sha256(text.encode()).hexdigest()[:12]
