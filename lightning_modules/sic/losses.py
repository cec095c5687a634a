"""The losses of SIC's three phases, as sums of the terms that a training pass gives.

    warm-up   A + spread
    main      alpha A + (1 - alpha) S(l) + shared + detail [+ evenness in the first epochs]
    GAN       the same, with g added to each perceptual distance

A: the weighted sum (`weighted_sum`) of everything coded, at the top level's weights; S(l): of what detail was drawn
for, at level l's. shared, detail: how far re-encoding leads away (`Consistency`). g: `generator_loss`.
"""

from __future__ import annotations

from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor

from lightning_modules.sic.level_schedule import LevelTable, LevelWeights


class Terms(NamedTuple):
    """The terms of a loss, scalars.

    mse: of pixels in [0, 1]. perceptual: LPIPS, plus g where there is a discriminator. bpp: z and y.
    """

    mse: Tensor
    perceptual: Tensor
    bpp: Tensor


def weighted_sum(weights: LevelWeights, terms: Terms) -> Tensor:
    """Compute distortion * mse + perception * perceptual + rate * bpp."""
    return weights.distortion * terms.mse + weights.perception * terms.perceptual + weights.rate * terms.bpp


# ---- rates that do not collapse to zero in some groups


def spread(rates: Tensor) -> Tensor:
    """Compute the unbiased standard deviation of the groups' bpp (L,), minus the least of them."""
    return rates.std() - rates.min()


def evenness(rates: Tensor, level: int, deviation: float, reward: float) -> Tensor:
    """Compute deviation * standard deviation of the groups' bpp (L,) - reward * bpp of the group that `level` adds."""
    return deviation * rates.std() - reward * rates[level - 1]


# ---- re-encoding


class Consistency(NamedTuple):
    """The mean squared differences of latents that were decoded and those that ga finds in the pictures."""

    shared: Tensor
    detail: Tensor


def consistency(y_hat: Tensor, details: Tensor, y_again: Tensor, absent: int) -> Consistency:
    """Compute the two terms of re-encoding, each a mean over the M + 1 pictures made of one.

    y_hat: (B, C, h, w), decoded first without detail. details: (M B, c, h, w), the channels C - c to C of the M
    others. y_again: ((1 + M) B, C, h, w), from all pictures, not rounded. The picture without detail has a share of
    zero in the second mean: absent: 1 counts it among the M + 1, as the authors do; 0 divides by M.
    """
    count, coded = len(details) // len(y_hat), y_hat.shape[1] - details.shape[1]
    first, others = y_again[: len(y_hat)], y_again[len(y_hat) :]
    shared = F.mse_loss(first, y_hat)
    if count:
        shared = (shared + count * F.mse_loss(others[:, :coded], y_hat[:, :coded].repeat(count, 1, 1, 1))) / (count + 1)
    detail = F.mse_loss(others[:, coded:], details) if details.numel() else y_hat.new_zeros(())
    return Consistency(shared, detail * (count / max(1, count + absent)))


# ---- the phases


def warm_up_loss(table: LevelTable, full: Terms, rates: Tensor) -> Tensor:
    """Compute A + spread. rates: (L,) bpp of the groups, under noise as in `full`."""
    return weighted_sum(table.top, full) + spread(rates)


def progressive_loss(
    table: LevelTable, level: int, full: Terms, sampled: Terms, again: Consistency, alpha: float
) -> Tensor:
    """Compute alpha A + (1 - alpha) S(level) + shared + detail.

    full.bpp counts all groups, sampled.bpp the first `level`.
    """
    trade_off = alpha * weighted_sum(table.top, full) + (1 - alpha) * weighted_sum(table(level), sampled)
    return trade_off + again.shared + again.detail


# ---- the discriminator's game, on logits


def generator_loss(logits: Tensor) -> Tensor:
    """Compute the cross entropy against "real" of what the discriminator says of reconstructions."""
    return F.softplus(-logits).mean()


def discriminator_loss(real: Tensor, full: Tensor, sampled: Tensor, fake_weight: float) -> Tensor:
    """Compute the cross entropy of real pictures as real, plus `fake_weight` times that of reconstructions as fake."""
    fake = F.softplus(full).mean() + F.softplus(sampled).mean()
    return generator_loss(real) + fake_weight * fake
