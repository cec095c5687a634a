"""A run's last files reach the logger: the model with its card, the report of a sweep with its table and curve."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger, WandbLogger
from PIL import Image

from callbacks.logged_files import REPORT, curve_points, log_model, log_report
from tests.harness.wandb_records import WandbRun, read_run

FACTS = {
    "name": "mine", "codec": "A", "hyperparameters": {"N": 8}, "parameters": 3, "complexity": {}, "fingerprint": "1a2b",
    "licence": "MIT",
}  # fmt: skip
CURVES = [
    {"name": "a", "points": [{"label": f"lmbda={n}", "means": {"bpp": n, "psnr": 30.0 + n}} for n in (1, 2)]},
    {"name": "JPEG", "points": [{"label": "50", "means": {"bpp": 0.5, "psnr": None}}]},
]


@pytest.fixture
def card(tmp_path: Path) -> list[Path]:
    files = [tmp_path / "card" / name for name in ("codec.safetensors", "card.json", "card.md")]
    files[0].parent.mkdir()
    for path, content in zip(files, ("weights", json.dumps(FACTS), "# mine"), strict=True):
        path.write_text(content)
    return files


@pytest.fixture
def report(tmp_path: Path) -> Path:
    folder = tmp_path / "report"
    folder.mkdir()
    for name in REPORT:
        (folder / name).write_text(json.dumps({"curves": CURVES}))
    Image.new("RGB", (8, 4), (1, 2, 3)).save(folder / "rd.png")
    return folder


@pytest.fixture
def logger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> WandbLogger:
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    return WandbLogger(save_dir=tmp_path, project="latentpress")


def finished(tmp_path: Path) -> WandbRun:
    import wandb

    wandb.finish()
    return read_run(tmp_path)


def test_wandb_keeps_a_model_and_its_card_as_one_artifact(
    logger: WandbLogger, card: list[Path], tmp_path: Path
) -> None:
    log_model(logger, card)
    assert finished(tmp_path).artifacts == {"mine-1a2b": ("model", ["card.json", "card.md", "codec.safetensors"])}


def test_wandb_shows_the_points_the_curve_and_the_figure_of_a_report(
    logger: WandbLogger, report: Path, tmp_path: Path
) -> None:
    log_report(logger, report)
    run = finished(tmp_path)
    (row,) = run.history
    assert row["report/points.nrows"] == 3
    assert row["report/figure.width"] == 8
    assert "report/curve_table.path" in row
    assert ("report", sorted(REPORT)) in run.artifacts.values()


def test_the_points_of_a_report_are_rows_with_their_curve(report: Path) -> None:
    (report / "results.json").write_text(json.dumps({"curves": CURVES}))
    assert curve_points(report / "results.json") == [
        {"curve": "a", "point": "lmbda=1", "bpp": 1, "psnr": 31.0},
        {"curve": "a", "point": "lmbda=2", "bpp": 2, "psnr": 32.0},
        {"curve": "JPEG", "point": "50", "bpp": 0.5, "psnr": None},
    ]


def test_tensorboard_shows_the_card_as_text_and_the_figure_as_an_image(
    card: list[Path], report: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    logger = TensorBoardLogger(tmp_path)
    shown: dict[str, object] = {}
    monkeypatch.setattr(logger.experiment, "add_text", lambda tag, text: shown.update({tag: text}))
    monkeypatch.setattr(logger.experiment, "add_image", lambda tag, image, dataformats: shown.update({tag: image}))
    log_model(logger, card)
    log_report(logger, report)
    assert shown["card"] == "# mine"
    assert np.array_equal(np.asarray(shown["report/rd"]), np.full((4, 8, 3), (1, 2, 3)))


def test_a_logger_of_numbers_has_nothing_to_do_with_files(card: list[Path], report: Path, tmp_path: Path) -> None:
    before = sorted(tmp_path.rglob("*"))
    logger = CSVLogger(tmp_path / "csv")
    log_model(logger, card)
    log_report(logger, report)
    assert sorted(tmp_path.rglob("*")) == before
