"""Validation pictures reach every kind of logger, side by side and captioned."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import lightning as L
import numpy as np
import pytest
import torch
from lightning.pytorch.loggers import CSVLogger, Logger, TensorBoardLogger, WandbLogger
from PIL import Image
from torch import Tensor

from callbacks.reconstruction_pictures import ReconstructionPictures, side_by_side, with_rates
from callbacks.shown_pictures import is_milestone

X = torch.full((1, 3, 5, 4), 0.5)
X_HAT = X + 0.05


class Validation(L.LightningModule):
    """Validates three pictures."""

    def validation_step(self, batch: Any, batch_idx: int) -> dict[str, Any]:
        return {"name": f"folder/{batch_idx}.png", "x": X, "x_hat": X_HAT, "bpp": torch.tensor(0.25)}

    def val_dataloader(self) -> range:
        return range(3)


def validate(logger: Logger, folder: Path) -> None:
    trainer = L.Trainer(
        accelerator="cpu",
        logger=logger,
        callbacks=[ReconstructionPictures(num_images=2)],
        default_root_dir=folder,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.validate(Validation(), verbose=False)


def test_panels_are_original_reconstruction_and_eightfold_error() -> None:
    panels = side_by_side(X, X_HAT)
    assert panels.shape == (3, 5, 12)
    assert panels[0, 0].tolist() == [128] * 4 + [140] * 4 + [102] * 4  # 0.5, 0.55 and 8 * 0.05


def test_a_codec_that_knows_where_its_bits_go_adds_a_map_of_them() -> None:
    bits = {"y": torch.tensor([[[[0.0, 40.0]]]])}
    panels, most = with_rates(side_by_side(X, X_HAT)[:, :4], bits)
    assert panels.shape == (3, 4, 16)
    assert torch.equal(panels[:, :, :12], side_by_side(X, X_HAT)[:, :4])
    assert panels[:, 0, 12].tolist() == [0, 0, 3]  # the darkest of the colours
    assert panels[:, 0, 15].tolist() == [251, 252, 191]  # and the brightest
    assert most == "bits up to 5.00 per pixel"


def test_a_few_pixels_at_a_border_that_share_a_positions_bits_do_not_darken_the_map() -> None:
    bits = {"y": torch.full((1, 1, 8, 9), 64.0)}  # positions of 16x16 pixels, the last ones cut to 16x1
    panels, most = with_rates(torch.zeros(3, 128, 3 * 129, dtype=torch.uint8), bits)
    assert most == "bits up to 0.25 per pixel"
    assert panels[:, 0, -2].tolist() == panels[:, 0, -1].tolist() == [251, 252, 191]


def test_a_csv_logger_gets_png_files_in_the_run_folder(tmp_path: Path) -> None:
    validate(CSVLogger(tmp_path / "csv"), tmp_path)
    files = sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.png") if path.is_file())
    assert files == ["pictures/folder_0.png/00000000.png", "pictures/folder_1.png/00000000.png"]
    with Image.open(tmp_path / files[0]) as picture:
        assert np.array_equal(np.asarray(picture), side_by_side(X, X_HAT).permute(1, 2, 0))


def test_a_tensorboard_logger_gets_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    logger = TensorBoardLogger(tmp_path)
    images: dict[str, Tensor] = {}
    monkeypatch.setattr(
        logger.experiment, "add_image", lambda tag, image, step: images.update({tag: image}), raising=True
    )
    validate(logger, tmp_path)
    assert list(images) == ["pictures/folder/0.png", "pictures/folder/1.png"]
    assert torch.equal(images["pictures/folder/0.png"], side_by_side(X, X_HAT))


def test_a_wandb_logger_gets_captioned_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    logged: list[tuple[str, tuple[int, int], list[str]]] = []

    def log_image(key: str, images: list[Any], step: int, caption: list[str]) -> None:
        logged.append((key, images[0].size, caption))

    logger = WandbLogger(save_dir=str(tmp_path), offline=True)  # starts no run before it logs
    monkeypatch.setattr(logger, "log_image", log_image)
    trainer: Any = SimpleNamespace(
        is_global_zero=True,
        sanity_checking=False,
        loggers=[logger],
        current_epoch=0,
        global_step=7,
        default_root_dir=tmp_path,
    )
    output = Validation().validation_step(None, 0)
    ReconstructionPictures(num_images=1).on_validation_batch_end(trainer, Validation(), output, None, 0)
    # 128 against 140: 20 log10(255 / 12) dB
    assert logged == [("pictures/folder/0.png", (12, 5), ["0.2500 bpp, 26.55 dB"])]


def test_a_long_training_logs_pictures_ever_more_rarely_and_at_its_end() -> None:
    trainers: Any = [
        SimpleNamespace(current_epoch=epoch, max_epochs=-1, global_step=10 * (epoch + 1), max_steps=270)
        for epoch in range(27)
    ]
    assert [t.current_epoch + 1 for t in trainers if is_milestone(t)] == [1, 2, 4, 8, 16, 27]
