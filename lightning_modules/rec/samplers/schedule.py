"""Schedules: how the prior's variance is dealt out to K auxiliary variables, as integers that files depend on.

A schedule has numbered choices; the receiver gets K and the number of the choice. Its scales are standard deviations
sigma_k / sigma in units of 2^-30, computed by correctly rounded operations alone, so equal on every machine.
Legend: N blocks, K variables, D dimensions, T nodes.
"""

from __future__ import annotations

from functools import cache
from typing import Protocol

import torch
from torch import Tensor

from lightning_modules.exact.torch_functions import ln, tree_sum
from lightning_modules.rec.samplers.auxiliary_variables import POWER_LAW_EXPONENT, Targets, power_law_variances

DEVIATION_BITS = 30
MAX_VARIABLES = 1 << 16
"""Variables of a block; their sum, 2^42 times at most 4.4 sqrt(K), stays below 2^53."""

NUM_QUANTILES = 1024
BISECTIONS = 60
WEIGHTS = tuple(k / 7 for k in range(8))
RATIOS = (0.7, 0.4, 0.2, 0.1, 0.03, 0.01, 1e-3, 1e-4)
NARROW_RATIOS = tuple(10.0**-k for k in range(5, 12))
FAR_NODES = (
    0.9,
    0.93,
    0.95,
    0.97,
    0.98,
    0.99,
    0.995,
    0.998,
    0.999,
    0.9997,
    *(1.0 - 10.0**-k for k in range(4, 12)),
    1.0,
)
NODES = (*(k / 16 for k in range(1, 15)), *FAR_NODES)
"""Shares of variance at which the encoder evaluates a block's KL profile."""
STEPS_JUDGED = 64
"""Steps of equal length, at most, in which a choice of the family is judged."""


class Schedule(Protocol):
    """Deals out the prior's variance."""

    num_choices: int

    def choose(self, targets: Targets, num_variables: Tensor) -> Tensor:
        """Return the choice (N,) that suits each block; whatever it is, the receiver gets it."""

    def scales(self, num_variables: int, choice: int) -> Tensor:
        """Return sigma_k / sigma (K,), int64 in units of 2^-DEVIATION_BITS."""


class PowerLaw:
    """The paper's schedule, the same for every block.

    exponent: of the share that a variable takes of the variance left to the last so many.
    """

    num_choices = 1

    def __init__(self, *, exponent: float = POWER_LAW_EXPONENT) -> None:
        self.exponent = exponent

    def choose(self, targets: Targets, num_variables: Tensor) -> Tensor:
        return torch.zeros_like(num_variables)

    def scales(self, num_variables: int, choice: int) -> Tensor:
        return _power_law_scales(num_variables, self.exponent)


@cache
def _power_law_scales(num_variables: int, exponent: float) -> Tensor:
    return rounded_scales(power_law_variances(num_variables, exponent))


class EqualKL:
    """64 schedules, of which each block takes the one that comes nearest to equal KL for every variable.

    Choice 8 i + j deals variance by f(t_k) = k / K with f = (1 - w) t + w g_r(t) / g_r(1), w = i / 7, r = RATIOS[j],
    and g_r(t) = -ln(1 - t (1 - r)) - t (1 - r): w = 0 is right where posteriors differ from the prior in their means
    alone, w = 1 where all differ in their variances alone, by the factor r. Since r says nothing where w = 0, choices
    1 ... 7 stand for w = 1 and very narrow posteriors, r = 1e-5 ... 1e-11.
    """

    num_choices = len(WEIGHTS) * len(RATIOS)

    def choose(self, targets: Targets, num_variables: Tensor) -> Tensor:
        """Return the choice whose costliest step is cheapest, the profile being interpolated between the nodes."""
        return best_choices(relative_profiles(targets), num_variables)

    def scales(self, num_variables: int, choice: int) -> Tensor:
        return _equal_kl_scales(num_variables, choice)


class SharedEqualKL(EqualKL):
    """Takes one choice of `EqualKL` for all blocks of a call, which costs 6 bits once."""

    def choose(self, targets: Targets, num_variables: Tensor) -> Tensor:
        profiles = targets.kl_profile(_nodes(targets.mean.device))
        together = tree_sum(profiles.T)[None]
        choice = best_choices(_normalised(together), num_variables.amax(0, keepdim=True))
        return choice.expand_as(num_variables)


def relative_profiles(targets: Targets) -> Tensor:
    """Return the partial sums' KL at the nodes over the whole KL, (N, T); of blocks without KL, the share itself."""
    return _normalised(targets.kl_profile(_nodes(targets.mean.device)))


def _normalised(profiles: Tensor) -> Tensor:
    total = profiles[:, -1:]
    return torch.where(total > 0, profiles / total, _nodes(profiles.device))


def best_choices(profiles: Tensor, num_variables: Tensor) -> Tensor:
    """Return the best choice (N,) of 64, by the largest increment of each relative profile (N, T) over its steps."""
    best = []
    for profile, steps in zip(profiles, num_variables.clamp(1, STEPS_JUDGED).tolist(), strict=True):
        left, weight = _interpolation(steps, profile.device)
        padded = torch.nn.functional.pad(profile, (1, 0))
        at_quantiles = padded[left] + weight * (padded[left + 1] - padded[left])
        best.append(at_quantiles.diff(dim=1).amax(1).argmin())
    return torch.stack(best)


@cache
def _interpolation(steps: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return the node left of each choice's quantiles, and the way to the next one, in [0, 1]: (64, steps + 1)."""
    t = torch.stack([_at_quantiles(_quantiles(choice), steps) for choice in range(EqualKL.num_choices)])
    nodes = torch.tensor((0.0, *NODES), dtype=torch.float64)
    left = (torch.searchsorted(nodes, t, right=True) - 1).clamp(0, len(nodes) - 2)
    weight = (t - nodes[left]) / (nodes[left + 1] - nodes[left])
    return left.to(device), weight.to(device)


@cache
def _nodes(device: torch.device) -> Tensor:
    return torch.tensor(NODES, dtype=torch.float64, device=device)


@cache
def _equal_kl_scales(num_variables: int, choice: int) -> Tensor:
    return rounded_scales(_at_quantiles(_quantiles(choice), num_variables).diff())


def _at_quantiles(quantiles: Tensor, steps: int) -> Tensor:
    """Return t (steps + 1,) at f = 0, 1 / steps, ..., 1, linear between the tabulated quantiles."""
    position = torch.arange(steps + 1, dtype=torch.float64) * NUM_QUANTILES / steps
    left = position.to(torch.int64).clamp_max(NUM_QUANTILES - 1)
    return quantiles[left] + (position - left) * (quantiles[left + 1] - quantiles[left])


@cache
def _quantiles(choice: int) -> Tensor:
    """Return t at which f passes each multiple of 1 / NUM_QUANTILES: the schedule's definition."""
    weight, ratio = _law(choice)
    goals = torch.arange(NUM_QUANTILES + 1, dtype=torch.float64) / NUM_QUANTILES
    whole = _variance_reduction(torch.ones(1, dtype=torch.float64), ratio)
    low, high = torch.zeros_like(goals), torch.ones_like(goals)
    for _ in range(BISECTIONS):
        middle = 0.5 * (low + high)
        is_below = (1.0 - weight) * middle + weight * (_variance_reduction(middle, ratio) / whole) < goals
        low, high = torch.where(is_below, middle, low), torch.where(is_below, high, middle)
    low[0], low[-1] = 0.0, 1.0
    return low


def _law(choice: int) -> tuple[float, float]:
    """Return w and r of a choice."""
    row, column = divmod(choice, len(RATIOS))
    if row == 0 and column > 0:
        return 1.0, NARROW_RATIOS[column - 1]
    return WEIGHTS[row], RATIOS[column]


def _variance_reduction(t: Tensor, ratio: float) -> Tensor:
    """Return g_r(t), twice the KL profile of a variance reduced to `ratio` times the prior's."""
    reduced = t * (1.0 - ratio)
    return -ln(1.0 - reduced) - reduced


def rounded_scales(variances: Tensor) -> Tensor:
    """Round variances sigma_k^2 / sigma^2 (K,) to integer standard deviations, at least one unit each."""
    scales = torch.sqrt(variances.clamp_min(0.0)) * float(1 << DEVIATION_BITS)
    return torch.round(scales).to(torch.int64).clamp_min(1)
