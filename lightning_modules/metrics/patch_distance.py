"""How far the patches of decoded pictures are from those of the originals as sets: FID and KID of codecs' tables.

A few hundred pictures are too few for statistics of Inception's features, so tables cut them into patches: those of a
regular tiling, and those of the same tiling begun `shift` pixels further down and to the right (HiFiC: Mentzer et al.
2020, section 5.2). One number for a whole test set.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torchmetrics import Metric, SumMetric

from lightning_modules.errors import CodingError
from lightning_modules.metrics.lpips import cached_by_torch

INCEPTION = "weights-inception-2015-12-05-6726825d.pth"
PUBLISHED_AT = "https://github.com/toshas/torch-fidelity/releases/download/v0.2.0"

NUM_FEATURES = 2048
"""Of Inception's last pooling, which both distances compare."""


def patches(x: Tensor, size: int, shift: int) -> Tensor:
    """Return patches (N, 3, size, size): of the tiling from the corner, then of that from (shift, shift)."""
    tilings = [tiles for start in (0, shift) if (tiles := _tiles(x[..., start:, start:], size)) is not None]
    return torch.cat(tilings) if tilings else x.new_zeros(0, x.shape[1], size, size)


def _tiles(x: Tensor, size: int) -> Tensor | None:
    """None where no tile fits."""
    if min(x.shape[-2:]) < size:
        return None
    tiles = x.unfold(2, size, size).unfold(3, size, size)
    return tiles.permute(0, 2, 3, 1, 4, 5).reshape(-1, x.shape[1], size, size)


class PatchDistance:
    """Updated with pictures and what they decode to; `compute` gives the distance over all of them, on all processes.

    statistic: makes torchmetrics' FID or KID, when it is first needed. size, shift: of `patches`. least: patches
    without which the distance is not defined.
    """

    def __init__(self, statistic: Callable[[], Metric], size: int, shift: int, least: int) -> None:
        self.statistic = statistic
        self.size, self.shift, self.least = size, shift, least
        self.count = SumMetric()

    @functools.cached_property
    def metric(self) -> Metric:
        return self.statistic()

    def to(self, device: torch.device) -> None:
        self.metric.to(device)
        self.count.to(device)

    def reset(self) -> None:
        self.metric.reset()
        self.count.reset()
        self.count.update(0)

    def update(self, x: Tensor, x_hat: Tensor) -> None:
        """Take in pictures and reconstructions, (B, 3, H, W) each, in [0, 1], of 8-bit pixels."""
        real, fake = (patches(value.mul(255).round().to(torch.uint8), self.size, self.shift) for value in (x, x_hat))
        if len(real):
            self.metric.update(real, real=True)
            self.metric.update(fake, real=False)
            self.count.update(len(real))

    def compute(self) -> float:
        """NaN, with a warning that says why, for too few patches. All processes have to call it."""
        count = int(self.count.compute())
        if count < self.least:
            warnings.warn(
                f"{count} patches of {self.size}x{self.size} are too few for {type(self.metric).__name__}, which needs "
                f"{self.least}; test more or larger pictures",
                stacklevel=2,
            )
            return float("nan")
        found = self.metric.compute()
        return float(found[0] if isinstance(found, tuple) else found)


def frechet(network: nn.Module | None = None, weights: str | None = None) -> Metric:
    """FID (Heusel et al. 2017). network: from uint8 pictures to features, instead of Inception; weights: its file."""
    from torchmetrics.image.fid import FrechetInceptionDistance

    return FrechetInceptionDistance(network or _inception(weights))


def kernel(subset_size: int, subsets: int, network: nn.Module | None = None, weights: str | None = None) -> Metric:
    """KID (Binkowski et al. 2018): mean over `subsets` draws of `subset_size` patches. Unbiased, also for few."""
    from torchmetrics.image.kid import KernelInceptionDistance

    return KernelInceptionDistance(network or _inception(weights), subsets=subsets, subset_size=subset_size)


def _inception(weights: str | None) -> nn.Module:
    """torch-fidelity's, with its published weights or those of a file. Raises `CodingError` where there are none."""
    try:
        from torchmetrics.image.fid import NoTrainInceptionV3

        if weights is None:
            weights = str(cached_by_torch(INCEPTION, PUBLISHED_AT).fetch())
        return NoTrainInceptionV3("inception-v3-compat", [str(NUM_FEATURES)], weights)
    except ModuleNotFoundError as error:
        raise CodingError(f"FID and KID need torch-fidelity ({error}); pip install -e .[metrics]") from error
