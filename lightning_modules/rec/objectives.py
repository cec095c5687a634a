"""What the models of this room are trained to minimise, per image, in bits per pixel."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torchmetrics.functional.image import multiscale_structural_similarity_index_measure

from lightning_modules.rate_distortion import mse_255

SCALES = 5
"""Of MS-SSIM, each with exponent 1, as in iREC's training."""


def kl_with_free_nats(kl: Sequence[Tensor], free: float) -> Tensor:
    """Nats per image, a scalar: each channel's mean over the batch counts as `free` nats at least.

    kl: of each level, (B, C, h, w). (Kingma et al. 2016, section 2.2; the mean, not each picture, is bounded.)
    """
    channels = torch.cat([level.float().sum((2, 3)).mean(0) for level in kl])
    return channels.clamp_min(free).sum()


def evened_kl(kl: Tensor, weight: float, evenness: float, sharpness: float) -> Tensor:
    """(weight - evenness / D) sum of kl + evenness * log-sum-exp of (sharpness kl) / sharpness, a scalar.

    kl: (D,) nats. The second term is the largest of them, softly, times evenness: with D of it a model does best when
    all dimensions hold alike. (The loss of iREC's MNIST code.)
    """
    largest = torch.logsumexp(sharpness * kl, 0) / sharpness
    return (weight - evenness / len(kl)) * kl.sum() + evenness * largest


def mean_squared_error(x: Tensor, x_hat: Tensor) -> Tensor:
    """(B,) on the scale of 0 ... 255."""
    return mse_255(x, x_hat)


def structural_error(x: Tensor, x_hat: Tensor) -> Tensor:
    """(B,) 255 (1 - MS-SSIM); sides of 161 pixels at least."""
    similarity: Tensor = multiscale_structural_similarity_index_measure(
        x_hat.float(), x.float(), reduction="none", data_range=1.0, betas=(1.0,) * SCALES, normalize="relu"
    )
    return 255.0 * (1.0 - similarity)
