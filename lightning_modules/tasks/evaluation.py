"""Comparing codecs: a first look, classical codecs over their qualities, and reports of what runs have left."""

from __future__ import annotations

from pathlib import Path

from omegaconf import OmegaConf

from lightning_modules.tasks.folders import compress, decompress
from lightning_modules.tasks.run import Run


def demo(run: Run) -> None:
    """Compress real photos with the packaged model, decode them again, compare with classical codecs."""
    cfg = run.cfg
    folder = Path(cfg.output or "demo_output")
    originals = run.build(cfg.task.originals, folder=folder / "originals")
    shared = ["experiment=demo", "logger=none", f"trainer={run.choices['trainer']}", f"lmbda={cfg.lmbda}"]
    files, decoded = folder / "files", folder / "decoded"
    compress(run.compose([*shared, "task=compress", "ckpt=demo", f"input='{originals}'", f"output='{files}'"]))
    decompress(run.compose([*shared, "task=decompress", f"input='{files}'", f"output='{decoded}'"]))
    run.build(cfg.task.comparison).run(originals, files, decoded, folder)


def baselines(run: Run) -> None:
    """Measure classical codecs over ladders of qualities, as folders that a report reads."""
    cfg = run.cfg
    cfg.task.baselines.provenance.config = OmegaConf.to_container(cfg, resolve=True)
    for table in run.build(cfg.task.baselines).run(Path(cfg.output)):
        print(f"table: {table}")


def report(run: Run) -> None:
    """Make curves, differences and tables of what runs have left: a page, a picture and data, also in the loggers."""
    from callbacks.logged_files import log_report

    cfg = run.cfg
    given = [cfg.input] if isinstance(cfg.input, str) else cfg.input
    run.build(cfg.task.report).run([Path(str(path)) for path in given], Path(cfg.output))
    for logger in run.build_each(cfg.logger):
        log_report(logger, Path(cfg.output))
