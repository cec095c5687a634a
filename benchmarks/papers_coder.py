"""The coder of iREC as its authors' public code runs it, for comparison: plain PyTorch, nothing left out or added.

At every step every beam gets fresh Gaussians for all candidates: uniform integers below a prime times the hash of the
beam's indices, through the inverse normal CDF. Each of the n B sums is scored by two log-densities, in float32. The
receiver draws all candidates of a step again and takes one.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.distributions import Normal

PRIME = 10007
HASH_FACTOR = 69
EXPONENT = -0.7864636765648174


class Message(NamedTuple):
    """seed: of the first step. indices: one for each step. size: dimensions."""

    seed: int
    indices: list[int]
    size: int


def variances(count: int) -> list[float]:
    """Return variances of the auxiliary variables, for a prior variance of 1."""
    rest, result = 1.0, []
    for left in range(count, 0, -1):
        ratio = left**EXPONENT
        result.append(rest * ratio)
        rest *= 1 - ratio
    return result


def candidates(seed: int, hashes: Tensor, count: int, size: int) -> Tensor:
    """Return (n, B, D) standard normals for the (B,) hashes of the beams."""
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randint(1, PRIME, (count, 1, size), generator=generator)
    uniform = ((drawn * hashes[:, None]) % PRIME).to(torch.float32) / PRIME
    return Normal(0.0, 1.0).icdf(uniform)


def hashes_of(indices: Tensor) -> Tensor:
    """Return (B,) numbers in 1 ... PRIME - 1 for the (B, k) indices so far."""
    factors = HASH_FACTOR + torch.arange(indices.shape[1])
    return 1 + (indices * factors).sum(1) % (PRIME - 1)


def encode(mean: Tensor, std: Tensor, steps: int, count: int, num_beams: int, seed: int) -> tuple[Message, Tensor]:
    """Posterior N(mean, std^2) (D,) against the prior N(0, 1) -> the message and the sample it stands for."""
    beams, indices, revealed = torch.zeros(1, len(mean)), torch.zeros(1, 0, dtype=torch.int64), 0.0
    for k, variance in enumerate(variances(steps)):
        revealed += variance
        noise = candidates(seed + k, hashes_of(indices), count, len(mean))
        sums = beams + math.sqrt(variance) * noise  # (n, B, D)
        spread = torch.sqrt(std**2 * revealed**2 + revealed * max(1.0 - revealed, 0.0))
        posterior, prior = Normal(mean * revealed, spread), Normal(0.0, math.sqrt(revealed))
        scores = (posterior.log_prob(sums) - prior.log_prob(sums)).sum(-1)
        best = scores.flatten().topk(min(num_beams, scores.numel())).indices
        chosen, parents = best // len(beams), best % len(beams)
        beams = sums[chosen, parents]
        indices = torch.cat([indices[parents], chosen[:, None]], dim=1)
    return Message(seed, indices[0].tolist(), len(mean)), beams[0]


def decode(message: Message, count: int) -> Tensor:
    """Return the sample (D,) that `encode` returned."""
    total = torch.zeros(message.size)
    for k, variance in enumerate(variances(len(message.indices))):
        before = torch.tensor([message.indices[:k]], dtype=torch.int64)
        noise = candidates(message.seed + k, hashes_of(before), count, message.size)
        total = total + math.sqrt(variance) * noise[message.indices[k], 0]
    return total


def nominal_nats(steps: int, count: int) -> float:
    """Return the nats of the indices."""
    return steps * math.log(count)
