"""Auxiliary variables: a Gaussian as a sum of K independent ones, each coded by an index of its own.

z = nu + a_1 + ... + a_K with a_k ~ N(0, sigma_k^2) under the prior p = N(nu, sigma^2), sum of sigma_k^2 = sigma^2
(iREC, section 3.2). b_k = a_1 + ... + a_k is all that matters of the first k. A *share* of prior variance is
t_k = (sigma_1^2 + ... + sigma_k^2) / sigma^2; formulas take it with its remainder 1 - t_k as an argument of its own,
since the remainder is what rounding would spoil near the end. All in float64, KL divergences in nats; tensors
broadcast, and D, the dimensions, are the last axis where something is summed.

Samplers work on blocks in units of their prior: with u = (z - nu) / sigma the prior is N(0, 1) in every dimension and
the posterior N(mean, ratio). Blocks of several sizes are stacked; the dimensions that a short block lacks have mean 0
and ratio 1, which carry no information, so they change no bit of any sum. Legend: N blocks, T shares.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from lightning_modules.exact.torch_functions import exp, ln, tree_sum

BISECTIONS = 60
POWER_LAW_EXPONENT = -0.7864636765648174
"""Fitted by the paper to optimised ratios; rounded to -0.79 there."""

ELEMENTS_AT_ONCE = 1 << 20


class Gaussian(NamedTuple):
    """Independent dimensions; `std` > 0."""

    mean: Tensor
    std: Tensor

    @property
    def variance(self) -> Tensor:
        return self.std * self.std


class VarianceShare(NamedTuple):
    """The part of the prior's variance that the first variables hold, and the rest of it; they sum to 1."""

    revealed: Tensor
    rest: Tensor


def partial_sum(posterior: Gaussian, prior: Gaussian, share: VarianceShare) -> Gaussian:
    """Return q(b_k), the partial sum's law when z follows the posterior; under the prior it is N(0, t sigma^2)."""
    t, rest = share
    ratio = variance_ratio(posterior, prior)
    return Gaussian((posterior.mean - prior.mean) * t, prior.std * torch.sqrt(t * (t * ratio + rest)))


def conditional_prior(prior: Gaussian, share: VarianceShare, b: Tensor) -> Gaussian:
    """Return p(z | b_k)."""
    return Gaussian(prior.mean + b, prior.std * torch.sqrt(share.rest))


def conditional_posterior(posterior: Gaussian, prior: Gaussian, share: VarianceShare, b: Tensor) -> Gaussian:
    """Return q(z | b_k)."""
    t, rest = share
    ratio = variance_ratio(posterior, prior)
    spread = t * ratio + rest
    mean = prior.mean + (b * ratio + (posterior.mean - prior.mean) * rest) / spread
    return Gaussian(mean, posterior.std * torch.sqrt(rest / spread))


def variance_ratio(posterior: Gaussian, prior: Gaussian) -> Tensor:
    """Return posterior variance over prior variance."""
    ratio = posterior.std / prior.std
    return ratio * ratio


def kl_divergence(posterior: Gaussian, prior: Gaussian) -> Tensor:
    """Return KL(q || p) summed over the last axis."""
    ratio = variance_ratio(posterior, prior)
    shift = (posterior.mean - prior.mean) / prior.std
    return tree_sum(0.5 * ((ratio - 1.0 - ln(ratio)) + shift * shift))


def kl_profile(posterior: Gaussian, prior: Gaussian, revealed: Tensor) -> Tensor:
    """Return KL(q(b_k) || p(b_k)) as a function of the revealed share t: (..., D) and t (T,) -> (..., T).

    Increasing and convex, from 0 at t = 0 to KL(q || p) at t = 1; its increments are what each variable costs.
    """
    excess = (variance_ratio(posterior, prior) - 1.0)[..., None, :]
    shift = ((posterior.mean - prior.mean) / prior.std)[..., None, :]
    pull = shift * shift + excess
    t = revealed[:, None]
    return tree_sum(0.5 * (t * pull - ln(1.0 + t * excess)))


def power_law_variances(num_variables: int, exponent: float = POWER_LAW_EXPONENT) -> Tensor:
    """Return sigma_k^2 / sigma^2 (K,): variable k takes (K + 1 - k)^exponent of what is left (iREC, section 3.2)."""
    left = torch.arange(num_variables, 0, -1, dtype=torch.float64)
    ratios = exp(exponent * ln(left))
    ratios[-1:] = 1.0
    rest, variances = 1.0, []
    for ratio in ratios.tolist():
        variances.append(rest * ratio)
        rest = rest * (1.0 - ratio)
    return torch.tensor(variances, dtype=torch.float64)


def equal_kl_variances(num_variables: int, posterior: Gaussian, prior: Gaussian) -> Tensor:
    """Return sigma_k^2 / sigma^2 (K,) that give every variable the same KL, for one block: mean and std (D,).

    What a schedule should come close to; a receiver does not know the posterior, so no file uses this one itself.
    """
    goals = kl_divergence(posterior, prior) * (torch.arange(1, num_variables, dtype=torch.float64) / num_variables)
    low, high = torch.zeros_like(goals), torch.ones_like(goals)
    for _ in range(BISECTIONS):
        middle = 0.5 * (low + high)
        is_below = kl_profile(posterior, prior, middle) < goals
        low, high = torch.where(is_below, middle, low), torch.where(is_below, high, middle)
    ends = torch.ones(1, dtype=torch.float64)
    return torch.cat([low, ends]).diff(prepend=0.0 * ends)


# ---- blocks in units of their prior


class Targets(NamedTuple):
    """Posteriors in prior units, float64.

    mean: (N, D). ratio: (N, D), posterior variance over prior variance, > 0; above 1 is allowed. sizes: (N,) int64.
    """

    mean: Tensor
    ratio: Tensor
    sizes: Tensor

    def kl(self) -> Tensor:
        """Return nats (N,)."""
        return kl_divergence(self._posterior, self._prior)

    def kl_profile(self, revealed: Tensor) -> Tensor:
        """Return nats (N, T) of the partial sums that hold the shares `revealed` (T,) of prior variance."""
        at_once = max(1, ELEMENTS_AT_ONCE // (len(revealed) * self.mean.shape[1]))
        parts = [self.rows(slice(k, k + at_once)) for k in range(0, len(self.mean), at_once)]
        return torch.cat([kl_profile(part._posterior, part._prior, revealed) for part in parts])

    def log_ratio(self, u: Tensor) -> Tensor:
        """Return log q(u) / p(u) (N,) in nats, at u (N, D)."""
        away = u - self.mean
        return 0.5 * tree_sum((u * u - away * away / self.ratio) - ln(self.ratio))

    def rows(self, chosen: Tensor | slice) -> Targets:
        """Return some of the blocks."""
        return Targets(self.mean[chosen], self.ratio[chosen], self.sizes[chosen])

    def trimmed(self) -> Targets:
        """Return the blocks without the dimensions that none of them has."""
        longest = int(self.sizes.max())
        return Targets(self.mean[:, :longest], self.ratio[:, :longest], self.sizes)

    @property
    def _posterior(self) -> Gaussian:
        return Gaussian(self.mean, torch.sqrt(self.ratio))

    @property
    def _prior(self) -> Gaussian:
        return Gaussian(torch.zeros_like(self.mean), torch.ones_like(self.ratio))


def stack_targets(means: Sequence[Tensor], ratios: Sequence[Tensor]) -> Targets:
    """Join blocks (D_n,) to one record. Raises ValueError for numbers no coder can work with."""
    sizes = torch.tensor([len(mean) for mean in means], dtype=torch.int64, device=means[0].device)
    mean = pad_sequence(list(means), batch_first=True, padding_value=0.0)
    ratio = pad_sequence(list(ratios), batch_first=True, padding_value=1.0)
    if not bool(torch.isfinite(mean).all() and torch.isfinite(ratio).all() and (ratio > 0).all()):
        raise ValueError(
            "a posterior or prior has a mean or a standard deviation that is not finite or not above 0: bound the "
            "scales that the networks give"
        )
    return Targets(mean, ratio, sizes)
