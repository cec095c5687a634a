"""Where in a picture its bits go: -log2 p of all latents above each pixel, as a map in colours."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from matplotlib import colormaps
from torch import Tensor

COLOURS = "magma"


def rate_map(bits: Mapping[str, Tensor], size: tuple[int, int]) -> Tensor:
    """Return bits per pixel (H, W), which sum to those of the picture, given those of latents, (1, C, h, w) each.

    An element's bits are shared equally by the pixels that it stands for: a square of a power of two pixels, as far as
    it lies in the picture.
    """
    total = torch.zeros(size)
    for value in bits.values():
        positions = value.float().sum(1)[0].cpu()
        rows, columns = (_owners(side, count) for side, count in zip(size, positions.shape, strict=True))
        shares = rows.bincount(minlength=positions.shape[0])[:, None] * columns.bincount(minlength=positions.shape[1])
        total += (positions / shares)[rows][:, columns]
    return total


def coloured(values: Tensor, most: float) -> Tensor:
    """Return values (H, W) from 0 to `most` as uint8 (3, H, W): black, through red, to yellow."""
    shown = colormaps[COLOURS]((values / max(most, 1e-12)).clamp(0.0, 1.0).numpy(), bytes=True)
    return torch.from_numpy(shown[..., :3].copy()).permute(2, 0, 1)


def _owners(side: int, count: int) -> Tensor:
    """Return which of `count` positions, a power of two pixels apart, each of `side` pixels in a row belongs to."""
    stride = 2 ** math.ceil(math.log2(side / count)) if side > count else 1
    return (torch.arange(side) // stride).clamp(max=count - 1)
