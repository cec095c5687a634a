"""Whole files that a run ends with, in its logger: a trained model with its card, a report's table, curve and data."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import singledispatch
from pathlib import Path
from typing import Any

import numpy as np
from lightning.pytorch.loggers import Logger, TensorBoardLogger, WandbLogger
from PIL import Image

FIGURE, DATA = "rd.png", "results.json"
REPORT = ("report.html", FIGURE, DATA, "results.csv")
"""Of a report: the page, the curves as a picture, the points and what explains them, every picture's row."""

CURVE = ("bpp", "psnr")
"""Axes of the curve that a dashboard draws itself."""


@singledispatch
def log_model(logger: Logger, files: Sequence[Path]) -> None:
    """Log the model and its card, `files`; nothing for loggers of numbers: the run folder has them."""
    del logger, files


@log_model.register
def _(logger: TensorBoardLogger, files: Sequence[Path]) -> None:
    """The card as a page of text."""
    logger.experiment.add_text("card", files[-1].read_text(encoding="utf-8", errors="replace"))


@log_model.register
def _(logger: WandbLogger, files: Sequence[Path]) -> None:
    """An artifact of the kind `model`; what the card knows in a few words is its metadata."""
    import wandb

    _, data, _ = files
    facts = json.loads(data.read_text(encoding="utf-8"))
    shown = ("codec", "hyperparameters", "parameters", "complexity", "fingerprint", "licence")
    artifact = wandb.Artifact(f"{facts['name']}-{facts['fingerprint']}", "model", metadata={k: facts[k] for k in shown})
    for path in files:
        artifact.add_file(str(path), name=path.name)
    logger.experiment.log_artifact(artifact)


@singledispatch
def log_report(logger: Logger, folder: Path) -> None:
    """Log what `task=report` has written into `folder`; nothing for loggers of numbers."""
    del logger, folder


@log_report.register
def _(logger: TensorBoardLogger, folder: Path) -> None:
    with Image.open(folder / FIGURE) as figure:
        logger.experiment.add_image("report/rd", np.asarray(figure.convert("RGB")), dataformats="HWC")


@log_report.register
def _(logger: WandbLogger, folder: Path) -> None:
    """The table of points, the curves drawn from it, the figure, and all files as an artifact."""
    import wandb

    points = curve_points(folder / DATA)
    columns: list[str | int] = [*dict.fromkeys(name for point in points for name in point)]
    table = wandb.Table(columns, [[point.get(str(name)) for name in columns] for point in points])
    logger.experiment.log(
        {
            "report/points": table,
            "report/curve": wandb.plot.line(table, *CURVE, stroke="curve", title="PSNR over bits per pixel"),
            "report/figure": wandb.Image(str(folder / FIGURE)),
        }
    )
    artifact = wandb.Artifact(f"report-{logger.experiment.id}", "report")
    for name in REPORT:
        artifact.add_file(str(folder / name), name=name)
    logger.experiment.log_artifact(artifact)


def curve_points(path: Path) -> list[dict[str, Any]]:
    """Return the points of a report's curves, one a row: `curve`, `point`, and their means."""
    document = json.loads(path.read_text(encoding="utf-8"))
    return [
        {"curve": curve["name"], "point": point["label"], **point["means"]}
        for curve in document["curves"]
        for point in curve["points"]
    ]
