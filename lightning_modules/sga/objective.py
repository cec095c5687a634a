"""The loss that a refinement minimises and the loss that it is judged by, both per image.

    loss = lmbda * distortion(x, x_hat) + bpp        distortion: mse on the 0-255 scale, unless another is given

The *method's* loss sees latents as the method relaxes them; the *true* loss sees them as they are coded: rounded on
the decoder's grid, bits under the coding tables, x_hat as a decoder computes it, not clamped.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from lightning_modules.codec import LatentVariableCodec
from lightning_modules.records import Latents, Synthesis
from lightning_modules.sga.distortion import Distortion
from lightning_modules.training.rate_distortion import bits, mse_255


class TrueLoss(NamedTuple):
    """The true loss of hard-rounded latents and its parts, all (B,).

    psnr: of 8-bit pixels. psnr_float: of x_hat as it is. Both in dB.
    """

    loss: Tensor
    bpp: Tensor
    psnr: Tensor
    psnr_float: Tensor


class Objective(NamedTuple):
    """The losses of given pictures.

    x: (B, 3, H, W) in [0, 1]. lmbda: at least 0; 0 minimises the rate alone.
    """

    x: Tensor
    lmbda: float
    distortion: Distortion

    def method_loss(self, synthesis: Synthesis) -> Tensor:
        """Compute the method's loss, (B,), differentiable."""
        rate = torch.stack([bits(likelihood) for likelihood in synthesis.likelihoods.values()]).sum(0)
        return self.lmbda * self.distortion(self.x, synthesis.x_hat) + rate / self._num_pixels()

    @torch.no_grad()
    def evaluate(self, codec: LatentVariableCodec, latents: Latents) -> TrueLoss:
        """Compute the true loss and its parts, of what coding would make of `latents`."""
        estimate = codec.estimate(latents)
        bpp = torch.stack(list(estimate.bits.values())).sum(0).to(self.x) / self._num_pixels()
        loss = self.lmbda * self.distortion(self.x, estimate.x_hat) + bpp
        levels = (estimate.x_hat.clamp(0.0, 1.0) * 255.0).round() / 255.0
        return TrueLoss(loss, bpp, psnr(self.x, levels), psnr(self.x, estimate.x_hat))

    def _num_pixels(self) -> int:
        return self.x.shape[-2] * self.x.shape[-1]


def psnr(x: Tensor, x_hat: Tensor) -> Tensor:
    """Compute the PSNR of (B, 3, H, W), peak 1: (B,) in dB, infinite for equal pictures."""
    return 10.0 * torch.log10(255.0**2 / mse_255(x, x_hat))
