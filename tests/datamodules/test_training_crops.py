"""Crops: true windows of the pictures, the same ones however a run is cut into workers, ranks and epochs."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from datamodules.training_crops import CropDataset, CropSampler, Pixels, cached_pixels, crop_loader, cut

SIZES = [(9, 11), (40, 30), (5, 4)]


def decode(path: Path) -> Pixels:
    """A picture whose samples say (picture, row, column)."""
    number = int(path.stem)
    rows, columns = np.mgrid[: SIZES[number][0], : SIZES[number][1]]
    return np.stack([np.full_like(rows, number), rows, columns], axis=-1).astype(np.uint8)


@pytest.fixture
def paths(tmp_path: Path) -> list[Path]:
    """Files whose names are all that `decode` needs."""
    paths = [tmp_path / f"{number}.png" for number in range(len(SIZES))]
    for path in paths:
        path.touch()
    return paths


@pytest.fixture
def crops(paths: list[Path], tmp_path: Path) -> CropDataset:
    return CropDataset(paths, size=6, seed=4, cache_dir=tmp_path / "cache", decode=decode)


def test_a_crop_is_a_window_or_its_mirror_image_and_every_window_comes() -> None:
    pixels = decode(Path("0.png"))
    rng = np.random.default_rng(0)
    windows = set()
    for _ in range(1500):
        picture, rows, columns = cut(pixels, 6, rng).int()
        assert torch.equal(picture, torch.zeros(6, 6, dtype=torch.int32))
        step = int(columns[0, 1] - columns[0, 0])
        assert torch.equal(rows - rows[0, 0], torch.arange(6).int()[:, None].expand(6, 6))
        assert torch.equal(columns - columns[0, 0], (step * torch.arange(6).int()).expand(6, 6))
        windows.add((int(rows.min()), int(columns.min()), step))
    assert windows == {(top, left, step) for top in range(4) for left in range(6) for step in (-1, 1)}


def test_a_picture_smaller_than_the_crop_is_reflected_to_fit() -> None:
    rows_and_mirrored = {
        tuple(cut(decode(Path("2.png")), 6, np.random.default_rng(k))[2, 0].tolist()) for k in range(20)
    }
    assert rows_and_mirrored == {(0, 1, 2, 3, 3, 2), (2, 3, 3, 2, 1, 0)}
    one_pixel = np.array([[[1, 2, 3]]], dtype=np.uint8)
    assert torch.equal(cut(one_pixel, 6, np.random.default_rng(0)).float().mean((1, 2)), torch.tensor([1.0, 2.0, 3.0]))


def test_pictures_are_drawn_by_the_root_of_their_area(crops: CropDataset) -> None:
    draws = np.bincount([int(crops[k][0, 0, 0]) for k in range(2000)], minlength=3) / 2000
    weights = np.sqrt([height * width for height, width in SIZES])
    assert np.abs(draws - weights / weights.sum()).max() < 0.05  # four standard deviations


def test_crop_k_depends_on_seed_and_k_alone(crops: CropDataset, paths: list[Path], tmp_path: Path) -> None:
    expected = [crops[k] for k in range(24)]
    again = CropDataset(paths, size=6, seed=4, cache_dir=tmp_path / "cache", decode=decode)
    assert all(torch.equal(again[k], expected[k]) for k in reversed(range(24)))
    other = CropDataset(paths, size=6, seed=5, cache_dir=tmp_path / "cache", decode=decode)
    assert not all(torch.equal(other[k], expected[k]) for k in range(24))


@pytest.mark.parametrize("num_workers", [0, 1])
def test_a_loader_gives_the_crops_in_order_whatever_its_workers(crops: CropDataset, num_workers: int) -> None:
    loader = crop_loader(
        crops,
        batch_size=3,
        steps_per_epoch=4,
        rank=0,
        world_size=1,
        num_batches_seen=lambda: 0,
        num_workers=num_workers,
        pin_memory=False,
    )
    assert torch.equal(torch.cat(list(loader)), torch.stack([crops[k] for k in range(12)]))


@pytest.mark.parametrize("world_size", [1, 2, 4])
def test_epochs_and_ranks_together_number_every_crop_once(world_size: int) -> None:
    seen: list[int] = []
    samplers = [
        CropSampler(8, rank=rank, world_size=world_size, num_seen=lambda: len(seen)) for rank in range(world_size)
    ]
    for _ in range(3):
        seen += [number for numbers in [list(sampler) for sampler in samplers] for number in numbers]
    assert sorted(seen) == list(range(24))


def test_a_resumed_run_goes_on_with_the_crops_it_had_not_seen(paths: list[Path], tmp_path: Path) -> None:
    crops = CropDataset(paths, size=16, seed=5, cache_dir=tmp_path, decode=decode)

    def batches(before: int) -> Tensor:
        loader = crop_loader(
            crops,
            batch_size=2,
            steps_per_epoch=3,
            rank=0,
            world_size=1,
            num_batches_seen=lambda: before,
            num_workers=0,
            pin_memory=False,
        )
        return torch.cat(list(loader))

    assert torch.equal(batches(2)[:2], batches(0)[4:])


def test_a_picture_is_decoded_once_and_again_when_its_file_changes(paths: list[Path], tmp_path: Path) -> None:
    decoded: list[Path] = []

    def counting(path: Path) -> Pixels:
        decoded.append(path)
        return decode(path)

    for _ in range(3):
        assert np.array_equal(cached_pixels(paths[1], tmp_path / "cache", counting), decode(paths[1]))
    assert decoded == paths[1:2]
    os.utime(paths[1], (1, 1))
    cached_pixels(paths[1], tmp_path / "cache", counting)
    assert decoded == [paths[1], paths[1]]


def test_an_interrupted_decoding_leaves_nothing_that_counts(paths: list[Path], tmp_path: Path) -> None:
    def failing(path: Path) -> Pixels:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cached_pixels(paths[0], tmp_path / "cache", failing)
    assert not list((tmp_path / "cache").glob("*.npy"))
    assert np.array_equal(cached_pixels(paths[0], tmp_path / "cache", decode), decode(paths[0]))
