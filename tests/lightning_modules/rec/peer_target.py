"""The Gaussian target that coders of the paper's kind are compared on."""

from __future__ import annotations

import torch

from lightning_modules.rec.samplers.auxiliary_variables import Gaussian, kl_divergence


def peer_target(dimensions: int = 1000, nats: float = 300.0, seed: int = 0) -> tuple[Gaussian, Gaussian]:
    """Posterior and prior N(0, I): std = exp(-|N(0, 1)| / 4), means scaled so that KL = nats."""
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randn(2, dimensions, generator=generator, dtype=torch.float64)
    prior = Gaussian(torch.zeros(dimensions, dtype=torch.float64), torch.ones(dimensions, dtype=torch.float64))
    std = torch.exp(-drawn[0].abs() / 4)
    missing = nats - float(kl_divergence(Gaussian(prior.mean, std), prior))
    assert missing >= 0, "these standard deviations alone cost more"
    mean = drawn[1] * (2 * missing / drawn[1].square().sum()).sqrt()
    return Gaussian(mean, std), prior
