"""The network h_a of bits-back, which differs from the hyperprior's."""

from __future__ import annotations

from torch import nn

from lightning_modules.hyperprior.networks import from_latents


def hyper_analysis(N: int, M: int) -> nn.Sequential:
    """Build h_a: (B, M, h, w) -> (B, 2N, h/4, w/4), means of z first, then logarithms of its variances."""
    return nn.Sequential(*from_latents(M, N, 2 * N, nn.LeakyReLU))
