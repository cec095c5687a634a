"""Relaxed rounding to floor or ceil: the rule of SGA (Yang et al. 2020, section 3.1) and those of SGA+ (2024, eq. 6-9).

A value v lies d = v - floor(v) above its floor and u = ceil(v) - v below its ceil. A rule gives both classes a logit;
only their difference matters, and for every rule here it is s(d) - s(u) with a score s of its own:

    P(ceil) = S(D / tau),  D = s(d) - s(u),  S the logistic function

A sample softens the classes again at the same temperature, softmax((logits + Gumbel noise) / tau). The difference of
two Gumbel variates is one logistic variate L, so a sample is floor + (ceil - floor) S((D / tau + L) / tau): half the
random numbers, and no axis of classes. An exact integer is both classes at once: it stays where it is, and its
gradient is zero, so refinement must not start from rounded latents.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from lightning_modules.sga.noise import Draw, logistic

EPSILON = 1e-5
"""Distances from a class are kept this far from 1, where logits would be infinite."""

COSINE_EPSILON = 1e-7
"""Least weight of a class under the cosine rule, before normalisation."""

Score = Callable[[Tensor], Tensor]
"""From the distance to the *other* class, in [0, 1], to a class's logit at tau = 1, up to what both classes share."""


@dataclass(frozen=True)
class TwoClassRule:
    """Probabilities, their mean and samples of a rounding to floor or ceil, for values of any shape and precision."""

    score: Score

    def probabilities(self, value: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
        """Return classes (..., 2), floor first, and their probabilities (..., 2), before Gumbel noise."""
        lower, upper, logit = self._logit(value)
        logits = torch.stack((-logit, logit), -1) / temperature
        return torch.stack((lower, upper), -1), torch.sigmoid(logits)

    def mean(self, value: Tensor, temperature: float) -> Tensor:
        """Return the classes' mean under these probabilities: deterministic annealing."""
        lower, upper, logit = self._logit(value)
        return lower + (upper - lower) * torch.sigmoid(logit / temperature)

    def sample(self, value: Tensor, temperature: float, draw: Draw) -> Tensor:
        """Draw one softened sample for each element; the gradient is that of the sample with its noise held fixed."""
        lower, upper, logit = self._logit(value)
        noisy = (logit / temperature + logistic(draw(value))) / temperature
        return lower + (upper - lower) * torch.sigmoid(noisy)

    def _logit(self, value: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        lower, upper = torch.floor(value).detach(), torch.ceil(value).detach()
        return lower, upper, self.score(value - lower) - self.score(upper - value)


def atanh() -> TwoClassRule:
    """Make the rule of SGA: logit -artanh(distance). P(ceil) is near (d / 2)^(1 / (2 tau)) for small d."""
    return TwoClassRule(_atanh_score)


def linear() -> TwoClassRule:
    """Make the rule with P(floor) = 1 - d at tau = 1."""
    return TwoClassRule(_log_score)


def cosine() -> TwoClassRule:
    """Make the rule with P(floor) = cos^2(pi d / 2) at tau = 1, up to 1e-7."""
    return TwoClassRule(_cosine_score)


def ssl(a: float) -> TwoClassRule:
    """Make the sigmoid-scaled logit rule: P(floor) = S(-a logit(d)) at tau = 1. a = 1 is linear, SGA+ takes 2.3."""
    return TwoClassRule(functools.partial(_ssl_score, a=a))


def _atanh_score(other: Tensor) -> Tensor:
    """Compute -artanh(1 - other) = (ln(other) - ln(2 - other)) / 2, up to what both classes share."""
    return (torch.log1p(other.clamp(max=1 - EPSILON)) + torch.log(other.clamp(min=EPSILON))) / 2


def _log_score(other: Tensor) -> Tensor:
    return torch.log(other.clamp(min=EPSILON))


def _cosine_score(other: Tensor) -> Tensor:
    return torch.log((1 - COSINE_EPSILON) * torch.sin(other * (math.pi / 2)).square() + COSINE_EPSILON)


def _ssl_score(other: Tensor, a: float) -> Tensor:
    return a * torch.log(other.clamp(EPSILON, 1 - EPSILON))
