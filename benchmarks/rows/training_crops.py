"""Row 18: training crops a second from a large PNG, our uint8 cache over PIL's full decode (CPU time)."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
from PIL import Image
from torch import Tensor
from torchvision import transforms

from benchmarks.contenders import pictures
from benchmarks.measurement import Goal, Measurement, Pair, Settings, interleave, speed_up
from datamodules.training_crops import CropDataset

NUMBER = 18
CROP = 256
LARGE = (2048, 1365)
"""(W, H) of a CLIC photograph."""
CROPS_PER_ROUND = 100
"""Ours only, so that a round of both sides takes about as long."""


def measure(settings: Settings) -> list[Measurement]:
    with tempfile.TemporaryDirectory() as folder:
        png = Path(folder) / "large.png"
        write_large_png(pictures(settings)[0].x, png)
        dataset = CropDataset([png], size=CROP, seed=0, cache_dir=Path(folder) / "cache", decode=pixels_of)
        loaded = transforms.Compose([transforms.RandomCrop(CROP), transforms.ToTensor()])
        pairs = interleave(
            lambda: read_crops(dataset),
            lambda: loaded(Image.open(png).convert("RGB")),
            rounds=settings.rounds,
        )
    per_crop = [Pair(pair.ours / CROPS_PER_ROUND, pair.theirs) for pair in pairs]
    what = f"{CROP}x{CROP} crops a second from a {LARGE[0]}x{LARGE[1]} PNG over PIL"
    return [speed_up(NUMBER, what, per_crop, Goal(">=", 100.0))]


def read_crops(dataset: CropDataset) -> None:
    """Read crops; each becomes floats, as PIL's does, and is let go."""
    for k in range(CROPS_PER_ROUND):
        dataset[k].float().div_(255.0)


def write_large_png(x: Tensor, path: Path) -> None:
    """Write the picture enlarged to the size of a camera's; x: (1, 3, H, W) in [0, 1]."""
    pixels = x[0].permute(1, 2, 0).mul(255.0).round().byte().numpy()
    Image.fromarray(pixels).resize(LARGE, Image.Resampling.LANCZOS).save(path)


def pixels_of(path: Path) -> np.ndarray:
    """Return pixels (H, W, 3) uint8."""
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))
