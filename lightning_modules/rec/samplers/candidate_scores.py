"""Log-density ratios of many candidates by one matrix product, to the same bits however they are computed.

After variable k the partial sum b has log q(b) / p(b) = sum_d 1/2 curvature b^2 + slope b + constant, with
curvature = (r - 1) / v, slope = m / v and v = t r + 1 - t (t: share revealed; m, r: the target). So a candidate a for
b + c a costs sum_d (curvature b + slope) c a + 1/2 curvature c^2 a^2 beyond what its beam has: products of a matrix
of candidates and one of beams. Weights are rounded to integers, few enough bits for every sum to stay below 2^53;
sums of integers in float64 do not depend on their order, hence not on threads, batch, library or device. All that
is done number by number is done in float32, at half the price: no receiver repeats it.
Legend: N blocks, B beams, n candidates, D dimensions.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from lightning_modules.coding.shared_randomness import NORMAL_UNIT
from lightning_modules.exact.torch_functions import ceil_log2, folded_, ln, power_of_two, tree_sum
from lightning_modules.rec.samplers.auxiliary_variables import Targets, VarianceShare
from lightning_modules.rec.samplers.candidate_noise import WORKING_TYPE, StepNoise

EXACT_BITS = 53
GRADIENT_BITS = 23
"""At most, so that integer gradients are exact in float32."""
NORMAL_BITS, SQUARE_BITS = 15, 29
"""Table entries and their squares are below 2^15 and 2^29."""
MAX_DIMENSIONS = 1 << 16
"""Most dimensions of a block; the weights of squares keep 8 bits then."""

LEAST = 1e-250
"""In place of 0, where all weights are."""

RESOLUTION = float(1 << 20)
"""Scores are compared in steps of 2^-20 nat, within RANGE nats of the best; ties go to the lower number."""
RANGE = float(1 << 18)
MAX_PATHS = 1 << 24
SUMMED_AS_INTEGERS = 32
"""Columns down to which sums are halved; cheaper to add at once are rounded numbers then."""
STEPS_AT_ONCE = 16


@dataclass(frozen=True)
class StepScores:
    """The quadratic form of one step, rounded where it meets candidates.

    curvature, slope: (N, 1, D) float32. square_weights: (N, D) integers, curvature in a unit of its own. Each
    (N, 1, 1): linear_unit and square_unit, what one is worth of (integer gradient unit) * candidate and of
    square_weights * candidate^2; limit, the largest integer a gradient may become; sum_limit, the same for a term of
    a score.
    """

    curvature: Tensor
    slope: Tensor
    square_weights: Tensor
    linear_unit: Tensor
    square_unit: Tensor
    limit: Tensor
    sum_limit: Tensor

    def of_candidates(self, b: Tensor, noise: StepNoise) -> Tensor:
        """Return log q / p (N, B, n) of beams (N, B, D) float32 with each candidate, without their constant."""
        gradient = (b * self.curvature).add_(self.slope)
        scores = self._of_sums(b, gradient)
        weights, unit = integers(gradient, self.limit)
        linear = noise.cross(weights).mul_(unit.to(torch.float64) * self.linear_unit)
        return linear.add_(noise.squares(self.square_weights).mul_(self.square_unit)).add_(scores[..., None])

    def _of_sums(self, b: Tensor, gradient: Tensor) -> Tensor:
        """Return the beams' own part of the score, (N, B)."""
        terms = folded_((gradient + self.slope).mul_(b), SUMMED_AS_INTEGERS).to(torch.float64)
        terms.mul_(0.5 * RESOLUTION).round_().clamp_(-self.sum_limit, self.sum_limit)
        return terms.sum(-1).div_(RESOLUTION)


def step_scores(
    targets: Targets, shares: VarianceShare, steps: Tensor, num_active: Sequence[int]
) -> Iterator[StepScores]:
    """Yield one step after the other, for the first `num_active[k]` blocks.

    shares: (N, K) each. steps: (N, K), sigma_k / sigma. Several steps are prepared at a time, since on one block
    calling an operation takes longer than the operation.
    """
    bits = size_bits(targets.sizes)
    gradients, squares, sums = (EXACT_BITS - factor_bits - bits for factor_bits in (NORMAL_BITS, SQUARE_BITS, 0))
    limits = [power_of_two(most) for most in (gradients.clamp_max(GRADIENT_BITS), squares, sums)]
    excess, ratio, mean = (part[:, None] for part in (targets.ratio - 1.0, targets.ratio, targets.mean))
    for start in range(0, len(num_active), STEPS_AT_ONCE):
        n, stop = num_active[start], start + STEPS_AT_ONCE
        t, rest, step = (part[:n, start:stop, None] for part in (*shares, steps))
        spread = t * ratio[:n] + rest
        curvature, slope = excess[:n] / spread, mean[:n] / spread  # (n, S, D)
        weights, unit = integers(curvature[:, :, None], limits[1][:n, None])
        square_units = unit * (step * step)[..., None] * (0.5 / NORMAL_UNIT**2)
        linear_units = step[..., None] / float(NORMAL_UNIT)
        curvature, slope = curvature.to(WORKING_TYPE), slope.to(WORKING_TYPE)
        for k in range(curvature.shape[1]):
            m = num_active[start + k]
            yield StepScores(
                curvature[:m, k, None],
                slope[:m, k, None],
                weights[:m, k, 0],
                linear_units[:m, k],
                square_units[:m, k],
                limits[0][:m].to(WORKING_TYPE),
                limits[2][:m],
            )


def size_bits(sizes: Tensor) -> Tensor:
    """Return ceil(log2) of the blocks' dimensions (N,), (N, 1, 1)."""
    bits = [ceil_log2(int(size)) for size in sizes]
    return torch.tensor(bits, dtype=torch.float64, device=sizes.device)[:, None, None]


def integers(values: Tensor, limit: Tensor) -> tuple[Tensor, Tensor]:
    """Return (..., B, D) as integers up to `limit`, of its own type, and the unit of each matrix (..., 1, 1)."""
    largest = values.abs().amax((-2, -1), keepdim=True).clamp_min_(LEAST)
    return (values * (limit / largest)).round_(), largest / limit


def one_shot_log_weights(targets: Targets, noise: StepNoise) -> Tensor:
    """Return log q(x) / p(x) (N, n) of candidates x ~ N(0, 1), for one path in each block."""
    one = torch.ones_like(targets.mean[:, :1])
    (scores,) = step_scores(targets, VarianceShare(one, torch.zeros_like(one)), one, [len(one)])
    at_zero = torch.zeros_like(targets.mean, dtype=WORKING_TYPE)[:, None]
    constant = -0.5 * tree_sum(ln(targets.ratio) + targets.mean * targets.mean / targets.ratio)
    return scores.of_candidates(at_zero, noise)[:, 0] + constant[:, None]


def best_paths(scores: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Return beam and candidate, (N, count) each, of the highest scores (N, B, n), best first."""
    num_candidates = scores.shape[-1]
    flat = scores.flatten(1)
    below = (flat - flat.amax(1, keepdim=True)).clamp_min_(-RANGE).mul_(RESOLUTION).round_().to(torch.int64)
    ranks = below.mul_(MAX_PATHS).sub_(_numbers(flat.shape[1], flat.device))
    best = torch.topk(ranks, count, dim=1).indices
    beams = torch.div(best, num_candidates, rounding_mode="trunc")
    return beams, best - beams * num_candidates


@lru_cache(maxsize=64)
def _numbers(count: int, device: torch.device) -> Tensor:
    return torch.arange(count, device=device)
