"""Log-density ratios of many candidates by one matrix product, to the same bits however they are computed.

After variable k the partial sum b has log q(b) / p(b) = sum_d 1/2 curvature b^2 + slope b + constant, with
curvature = (r - 1) / v, slope = m / v and v = t r + 1 - t (t: share revealed; m, r: the target). So a candidate a for
b + c a costs sum_d (curvature b + slope) c a + 1/2 curvature c^2 a^2 beyond what its beam has: products of a matrix
of candidates and one of beams. Weights are rounded to integers, few enough bits for every sum to stay below 2^53;
sums of integers in float64 do not depend on their order, hence not on threads, batch, library or device.
Legend: N blocks, B beams, n candidates, D dimensions.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from lightning_modules.rec.auxiliary_variables import Share
from lightning_modules.rec.candidate_noise import StepNoise
from lightning_modules.rec.portable_math import ceil_log2, ln, power_of_two, tree_sum
from lightning_modules.rec.shared_randomness import NORMAL_UNIT
from lightning_modules.rec.targets import Targets

EXACT_BITS = 53
NORMAL_BITS, SQUARE_BITS = 15, 29
"""Table entries and their squares are below 2^15 and 2^29."""
MAX_DIMENSIONS = 1 << 16
"""Of a block; the weights of squares keep 8 bits then."""

LEAST = 1e-250
"""In place of 0, where all weights are."""

RESOLUTION = float(1 << 20)
"""Scores are compared in steps of 2^-20 nat, within RANGE nats of the best; ties go to the lower number."""
RANGE = float(1 << 18)
MAX_PATHS = 1 << 24


@dataclass(frozen=True)
class StepScores:
    """The quadratic form of one step.

    curvature, slope: (N, 1, D). step: (N, 1, 1), sigma_k / sigma. bits: (N, 1, 1), log2 of the blocks' dimensions.
    """

    curvature: Tensor
    slope: Tensor
    step: Tensor
    bits: Tensor

    @classmethod
    def of(cls, targets: Targets, share: Share, step: Tensor, bits: Tensor) -> StepScores:
        """share: (N, 1, 1) each."""
        spread = share.revealed * targets.ratio[:, None] + share.rest
        return cls((targets.ratio - 1.0)[:, None] / spread, targets.mean[:, None] / spread, step, bits)

    def of_sums(self, b: Tensor) -> tuple[Tensor, Tensor]:
        """(N, B, D) -> the gradient there (N, B, D), and the scores (N, B) without their constant."""
        gradient = (b * self.curvature).add_(self.slope)
        return gradient, tree_sum((gradient + self.slope).mul_(b)) * 0.5

    def of_candidates(self, b: Tensor, noise: StepNoise) -> Tensor:
        """(N, B, n) log q / p of each beam plus each candidate, without their constant."""
        gradient, scores = self.of_sums(b)
        weights, unit = integers(gradient, EXACT_BITS - NORMAL_BITS - self.bits)
        square_weights, square_unit = integers(self.curvature, EXACT_BITS - SQUARE_BITS - self.bits)
        linear = noise.cross(weights) * (unit * self.step * (1.0 / NORMAL_UNIT))
        squares = noise.squares(square_weights[:, 0]) * (square_unit * self.step * self.step * (0.5 / NORMAL_UNIT**2))
        return linear.add_(squares).add_(scores[..., None])


def size_bits(sizes: Tensor) -> Tensor:
    """(N, 1, 1) ceil(log2) of the blocks' dimensions (N,)."""
    bits = [ceil_log2(int(size)) for size in sizes]
    return torch.tensor(bits, dtype=torch.float64, device=sizes.device)[:, None, None]


def integers(values: Tensor, bits: Tensor) -> tuple[Tensor, Tensor]:
    """(N, B, D) as integers of at most `bits` (N, 1, 1) bits, as float64, and the unit (N, 1, 1) of each block."""
    largest = torch.linalg.vector_norm(values, float("inf"), dim=(1, 2), keepdim=True).clamp_min_(LEAST)
    limit = power_of_two(bits)
    return (values * (limit / largest)).round_(), largest / limit


def one_shot_log_weights(targets: Targets, noise: StepNoise) -> Tensor:
    """(N, n) log q(x) / p(x) of candidates x ~ N(0, 1), for one path in each block."""
    one = torch.ones_like(targets.mean[:, :1, None])
    scores = StepScores.of(targets, Share(one, torch.zeros_like(one)), one, size_bits(targets.sizes))
    at_zero = torch.zeros_like(targets.mean)[:, None]
    constant = -0.5 * tree_sum(ln(targets.ratio) + targets.mean * targets.mean / targets.ratio)
    return scores.of_candidates(at_zero, noise)[:, 0] + constant[:, None]


def best_paths(scores: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """(N, B, n) -> beam and candidate, (N, count) each, of the highest scores, best first."""
    num_candidates = scores.shape[-1]
    flat = scores.flatten(1)
    below = (flat - flat.amax(1, keepdim=True)).clamp_min_(-RANGE).mul_(RESOLUTION).round_().to(torch.int64)
    ranks = below * MAX_PATHS - torch.arange(flat.shape[1], device=flat.device)
    best = torch.topk(ranks, count, dim=1).indices
    return best // num_candidates, best % num_candidates
