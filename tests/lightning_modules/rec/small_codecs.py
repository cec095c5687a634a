"""Small codecs, initialised by data and then disturbed, so that priors differ from place to place."""

from __future__ import annotations

from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor

from lightning_modules.rec.lossless_codec import LosslessCodec
from lightning_modules.rec.lossy_codec import LossyCodec
from lightning_modules.rec.models.hierarchy import analytic
from lightning_modules.rec.models.weight_norm import initialized_by_data

Codec = TypeVar("Codec", LosslessCodec, LossyCodec)


def picture(height: int, width: int, seed: int = 0) -> Tensor:
    """(1, 3, H, W) in [0, 1], smooth with some noise, of 8-bit values."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(1, 3, 4, 4, generator=generator)
    smooth = F.interpolate(coarse, (height, width), mode="bilinear", align_corners=True)
    noise = 0.03 * torch.randn(1, 3, height, width, generator=generator)
    return ((smooth + noise).clamp(0, 1) * 255).round() / 255


def lossless_codec(likelihood: str = "own_scales") -> LosslessCodec:
    torch.manual_seed(1)
    codec = LosslessCodec(depth=3, width=12, latent_width=3, likelihood=likelihood)
    x = torch.cat([picture(32, 32, seed) for seed in range(4)])
    with torch.no_grad(), initialized_by_data(codec.networks):
        codec.pixel_bits(x, codec.observe(x, analytic, torch.randn_like).state)
    if likelihood == "shared_scale":
        codec.likelihood.load_state_dict({"log_scale": torch.tensor(-3.0)})
    return disturbed(codec)


def lossy_codec(architecture: str = "two_levels") -> LossyCodec:
    torch.manual_seed(2)
    widths = [12] if architecture == "one_level" else [12, 8]
    return disturbed(LossyCodec(architecture=architecture, widths=widths, lmbda=0.01))


def disturbed(codec: Codec) -> Codec:
    """Some KL everywhere, and what blocks are cut by measured on a picture."""
    for parameter in codec.networks.parameters():
        parameter.data.add_(0.02 * torch.randn_like(parameter))
    with torch.no_grad():
        found = codec.observe(picture(64, 64), analytic, torch.randn_like)
        for _ in range(300):
            codec.remember_kl(found.kl, momentum=0.99)
    return codec.eval()
