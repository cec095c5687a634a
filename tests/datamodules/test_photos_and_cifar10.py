"""Training pictures from two sources: as many of each as is asked for, in an order that the seed determines."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from datamodules.cifar10 import BATCHES, FOLDER
from datamodules.photos_and_cifar10 import PhotosAndCifar10
from lightning_modules.errors import CodingError


@pytest.fixture
def settings(tmp_path: Path) -> dict[str, Any]:
    """A black photograph, and white pictures as CIFAR-10."""
    (tmp_path / "photos").mkdir()
    Image.new("RGB", (50, 40)).save(tmp_path / "photos" / "black.png")
    (tmp_path / FOLDER).mkdir()
    for name in BATCHES["train"]:
        rows = np.full((2, 3 * 32 * 32), 255, dtype=np.uint8)
        (tmp_path / FOLDER / name).write_bytes(pickle.dumps({"data": rows}, protocol=3))
    folders = {"train": tmp_path / "photos", "val": None, "test": None, "input": None, "cache_dir": tmp_path / "cache"}
    numbers = {"crop": 32, "batch_size": 50, "steps_per_epoch": 4, "num_workers": 0, "seed": 3}
    return {**folders, **numbers, "cifar10": tmp_path, "share": 0.3}


def white(settings: dict[str, Any]) -> torch.Tensor:
    """Whether each training picture comes from CIFAR-10, (200,)."""
    batches = list(PhotosAndCifar10(**settings).train_dataloader())
    assert all(batch.shape == (50, 3, 32, 32) for batch in batches)
    return torch.cat([batch[:, 0, 0, 0] == 255 for batch in batches])


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_a_share_of_the_pictures_is_small_ones(settings: dict[str, Any], share: float) -> None:
    found = white(settings | {"share": share})
    assert float(found.float().mean()) == pytest.approx(share, abs=0.1)
    assert torch.equal(white(settings | {"share": share}), found)


def test_crops_of_another_size_and_impossible_shares_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(CodingError, match=r"datamodule\.crop=64: beside pictures of CIFAR-10, crops are of 32 pixels"):
        PhotosAndCifar10(**settings | {"crop": 64})
    with pytest.raises(CodingError, match=r"datamodule\.share=2"):
        PhotosAndCifar10(**settings | {"share": 2})


def test_a_set_that_is_there_is_not_fetched(settings: dict[str, Any]) -> None:
    PhotosAndCifar10(**settings).prepare_data()
