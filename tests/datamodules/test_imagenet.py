"""Crops of pictures decoded when they are drawn."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from datamodules.imagenet import DecodedCrops, ImageNet
from lightning_modules.errors import CodingError


@pytest.fixture
def paths(tmp_path: Path) -> list[Path]:
    """Flat pictures of red 50, 100 (gray), 150 (CMYK); one too small, one broken."""
    (tmp_path / "n01440764").mkdir()
    paths = [tmp_path / "n01440764" / f"{number}.JPEG" for number in range(5)]
    Image.new("RGB", (40, 24), (50, 60, 70)).save(paths[0], quality=95)
    Image.new("L", (24, 40), 100).save(paths[1], quality=95)
    Image.new("CMYK", (30, 30), (105, 105, 105, 0)).save(paths[2], quality=95)
    Image.new("RGB", (400, 15), (200, 0, 0)).save(paths[3])
    paths[4].write_bytes(b"no picture")
    return paths


def test_only_large_enough_readable_pictures_are_drawn_and_equally_often(paths: list[Path]) -> None:
    crops = DecodedCrops(paths, size=16, seed=1)
    reds = np.array([crops[k][0].float().mean().round().item() for k in range(600)])
    counts = [int((abs(reds - expected) <= 3).sum()) for expected in (50, 100, 150)]
    assert sum(counts) == 600
    assert all(abs(count - 200) < 60 for count in counts)  # five standard deviations


def test_a_crop_depends_on_seed_and_number_alone(paths: list[Path]) -> None:
    first, again, other = (DecodedCrops(paths, size=16, seed=seed) for seed in (1, 1, 2))
    backwards = [again[k] for k in reversed(range(20))][::-1]
    assert all(torch.equal(first[k], backwards[k]) for k in range(20))
    assert not all(torch.equal(first[k], other[k]) for k in range(20))


def test_a_set_without_a_large_enough_picture_is_one_line(paths: list[Path]) -> None:
    with pytest.raises(CodingError, match=r"lower datamodule\.crop="):
        DecodedCrops(paths[3:4], size=16, seed=0)[0]


def test_the_datamodule_keeps_nothing_on_the_disk(paths: list[Path], tmp_path: Path) -> None:
    module = ImageNet(
        train=[paths[0].parent],
        val=None,
        test=None,
        input=None,
        crop=16,
        batch_size=2,
        steps_per_epoch=3,
        num_workers=0,
        cache_dir=tmp_path / "cache",
        seed=0,
    )
    assert [batch.shape for batch in module.train_dataloader()] == [(2, 3, 16, 16)] * 3
    assert not (tmp_path / "cache").exists()
