"""Training of the models of relative entropy coding: negative evidence bounds, with free nats or with a distortion."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torchmetrics.functional.image import multiscale_structural_similarity_index_measure

from lightning_modules.compression_module import TrainedModule
from lightning_modules.rec.codec import Pass, RecCodec
from lightning_modules.rec.files.sample_files import LN2, size_of
from lightning_modules.rec.lossless_codec import LosslessCodec
from lightning_modules.rec.lossy_codec import LossyCodec
from lightning_modules.rec.mnist_codec import MnistCodec
from lightning_modules.rec.models.hierarchy import KL, analytic, sampled_kl
from lightning_modules.rec.models.weight_norm import initialized_by_data
from lightning_modules.training.rate_distortion import mse_255

Distortion = Callable[[Tensor, Tensor], Tensor]
"""(x, x_hat), each (B, 3, H, W), -> (B,)"""


class RecModule(TrainedModule):
    """Weight-normed layers get their first gains from the first batch, before anything else sees them.

    kl_momentum: of the average, over steps, of a channel's KL.
    """

    codec: RecCodec

    def __init__(self, *, kl_momentum: float, **settings: Any) -> None:
        super().__init__(**settings)
        self.kl_momentum = kl_momentum

    @torch.no_grad()
    def setup(self, stage: str) -> None:
        super().setup(stage)
        if stage != "fit" or not self.codec.fresh:
            return
        (batch,) = (batch for batch, _ in zip(self.first_batches(), range(1), strict=False))
        with initialized_by_data(self.codec.networks):
            self.warm_up(batch.float() / 255.0)
        self.codec.fresh = False

    def first_batches(self) -> Any:
        """Return those of training, uint8."""
        return getattr(self.trainer, "datamodule").train_dataloader()  # noqa: B009 (set by a connector)

    def warm_up(self, x: Tensor) -> None:
        """Run a batch through every layer."""
        self.codec.estimate_from(x, self.codec.observe(x, analytic, torch.randn_like).state, torch.zeros(len(x)))

    def observed(self, x: Tensor, kl: KL) -> Pass:
        """Draw samples for a batch of training, and remember the KL of its channels."""
        found = self.codec.observe(x, kl, torch.randn_like)
        self.codec.remember_kl(found.kl, self.kl_momentum)
        return found

    def log_terms(self, terms: dict[str, Tensor]) -> None:
        """Log values when the logger takes this step's."""
        if self.is_logging_step():
            self.log_dict({f"train/{name}": value.detach() for name, value in terms.items()})


class LosslessModule(RecModule):
    """Minimises [-log2 P(x|z) + sum over channels of max(free, KL)] / (H W), KL by one sample.

    free_nats: of each channel of each level, per image.
    """

    codec: LosslessCodec

    def __init__(self, *, free_nats: float, **settings: Any) -> None:
        super().__init__(**settings)
        self.free_nats = free_nats

    def training_step(self, x: Tensor, batch_idx: int) -> Tensor:
        """Return the mean loss of a batch x (B, 3, H, W) in [0, 1]."""
        del batch_idx
        found = self.observed(x, sampled_kl)
        num_pixels = x.shape[-2] * x.shape[-1]
        pixels = self.codec.pixel_bits(x, found.state).mean() / num_pixels
        loss = pixels + kl_with_free_nats(found.kl, self.free_nats) / (LN2 * num_pixels)
        latents = kl_with_free_nats(found.kl, -torch.inf) / (LN2 * num_pixels)
        self.log_terms({"loss": loss, "bpp": pixels + latents, "bpp_pixels": pixels, "bpp_latents": latents})
        return loss


class DigitModule(RecModule):
    """Minimises [-ln P(x|z) + `evened_kl`] / (H W ln 2), of which both weights grow with the steps.

    anneal_steps: after so many, the KL counts fully; even_from: after so many times as many, evenness begins to grow,
    by 1 in as many, up to D. sharpness: of the soft maximum.
    """

    codec: MnistCodec

    def __init__(self, *, anneal_steps: int, even_from: float, sharpness: float, **settings: Any) -> None:
        super().__init__(**settings)
        self.anneal_steps, self.even_from, self.sharpness = anneal_steps, even_from, sharpness

    def weights(self, step: int, dimensions: int) -> tuple[float, float]:
        """Return the weight of the KL, and evenness."""
        progress = step / self.anneal_steps
        return min(1.0, progress), min(max(progress - self.even_from, 0.0), float(dimensions))

    def training_step(self, x: Tensor, batch_idx: int) -> Tensor:
        """Return the mean loss of a batch x (B, 3, H, W) in [0, 1]."""
        del batch_idx
        found = self.observed(x, analytic)
        num_pixels = x.shape[-2] * x.shape[-1]
        pixels = self.codec.pixel_bits(x, found.state).mean() / num_pixels
        (kl,) = (level.float().sum((2, 3)).mean(0) for level in found.kl)
        penalty = evened_kl(kl, *self.weights(self.global_step, len(kl)), self.sharpness)
        loss = pixels + penalty / (LN2 * num_pixels)
        latents = kl.sum() / (LN2 * num_pixels)
        self.log_terms({"loss": loss, "bpp": pixels + latents, "bpp_pixels": pixels, "bpp_latents": latents})
        return loss


class LossyModule(RecModule):
    """Minimises lmbda * distortion + KL / (H W ln 2), KL in closed form."""

    codec: LossyCodec

    def __init__(self, *, distortion: Distortion, **settings: Any) -> None:
        super().__init__(**settings)
        self.distortion = distortion

    def training_step(self, x: Tensor, batch_idx: int) -> Tensor:
        """Return the mean loss of a batch x (B, 3, H, W) in [0, 1]."""
        del batch_idx
        found = self.observed(x, analytic)
        bpp = kl_with_free_nats(found.kl, -torch.inf) / (LN2 * x.shape[-2] * x.shape[-1])
        distortion = self.distortion(x, self.codec.pictures(found.state, size_of(x))).mean()
        loss = self.lmbda * distortion + bpp
        self.log_terms({"loss": loss, "bpp": bpp, "distortion": distortion})
        return loss


SCALES = 5
"""Scales of MS-SSIM, each with exponent 1, as in iREC's training."""


def kl_with_free_nats(kl: Sequence[Tensor], free: float) -> Tensor:
    """Return nats per image, a scalar: each channel's mean over the batch counts as `free` nats at least.

    kl: of each level, (B, C, h, w). (Kingma et al. 2016, section 2.2; the mean, not each picture, is bounded.)
    """
    channels = torch.cat([level.float().sum((2, 3)).mean(0) for level in kl])
    return channels.clamp_min(free).sum()


def evened_kl(kl: Tensor, weight: float, evenness: float, sharpness: float) -> Tensor:
    """Return (weight - evenness / D) sum of kl + evenness * log-sum-exp of (sharpness kl) / sharpness, a scalar.

    kl: (D,) nats. The second term is the largest of them, softly, times evenness: with D of it a model does best when
    all dimensions hold alike. (The loss of iREC's MNIST code.)
    """
    largest = torch.logsumexp(sharpness * kl, 0) / sharpness
    return (weight - evenness / len(kl)) * kl.sum() + evenness * largest


def mean_squared_error(x: Tensor, x_hat: Tensor) -> Tensor:
    """Return the mean squared error (B,) on the scale of 0 ... 255."""
    return mse_255(x, x_hat)


def structural_error(x: Tensor, x_hat: Tensor) -> Tensor:
    """Return 255 (1 - MS-SSIM), (B,); sides of 161 pixels at least."""
    similarity: Tensor = multiscale_structural_similarity_index_measure(
        x_hat.float(), x.float(), reduction="none", data_range=1.0, betas=(1.0,) * SCALES, normalize="relu"
    )
    return 255.0 * (1.0 - similarity)
